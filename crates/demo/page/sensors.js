// The panel of the sensors: a chart and the last value of each.

import { Chart } from "./chart.js";
import { Rate } from "./measure.js";

/** What `weir-load demo` has at the other end; each is the channel `sensors:NAME`. */
export const SENSORS = ["boiler", "turbine", "pump", "intake"];

/** Everybody may publish here: what is no temperature, or of another day, is not shown. */
function isReading({ value, at }) {
  if (typeof value !== "number" || typeof at !== "number") return false;
  return Math.abs(value) < 10_000 && Math.abs(at - Date.now()) < 3_600_000;
}

export class Sensors {
  #chart = new Chart(document.querySelector("#chart"), SENSORS);
  #canvas = document.querySelector("#chart");
  #rate = new Rate();
  #shownRate = document.querySelector("#sensors-rate");
  #values;
  #last = SENSORS.map(() => null);

  constructor() {
    const legend = document.querySelector("#legend");
    this.#values = SENSORS.map((name) => {
      const item = document.createElement("li");
      const value = document.createElement("output");
      value.textContent = "–";
      item.append(name, value);
      legend.append(item);
      return value;
    });
    this.#animate();
  }

  /** Shows a reading; `isLive` when it came at this moment and not as history. */
  show(sensor, reading, { wasRecovered, isLive }, now) {
    const at = SENSORS.indexOf(sensor);
    if (!isReading(reading)) return;
    this.#chart.add(at, reading.at, reading.value, wasRecovered);
    if (isLive) this.#rate.add(now);
    if ((this.#last[at]?.at ?? 0) <= reading.at) this.#last[at] = reading;
  }

  /** The network went or came. */
  cut(isCut) {
    if (isCut) this.#chart.beginBand(Date.now());
    else this.#chart.endBand(Date.now());
  }

  /** Once a second: what need not be shown more often. */
  tick(now) {
    this.#shownRate.textContent = this.#rate.perSecond(now).toFixed(1);
    const said = this.#last.map((reading, at) => {
      const text = reading ? `${reading.value.toFixed(1)} °C` : "–";
      this.#values[at].textContent = text;
      return `${SENSORS[at]} ${text}`;
    });
    this.#canvas.setAttribute("aria-label", `Temperatures of the last minute: ${said.join(", ")}`);
  }

  #animate() {
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
    let drawn = 0;
    const frame = (time) => {
      if (time - drawn >= (isCalm.matches ? 500 : 30)) {
        drawn = time;
        this.#chart.draw(Date.now());
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
}
