// What is known of the connection: its state and since when, how long things take, how much comes.

import { Rate, Recent, milliseconds } from "./measure.js";
import { Sparkline } from "./sparkline.js";

const TRANSPORTS = { websocket: "WebSocket", http_stream: "HTTP stream", sse: "Server-Sent Events" };

const element = (id) => document.querySelector(`#${id}`);

export class Status {
  #state = element("state");
  #about = "not yet begun";
  #since = performance.now();
  #latency = new Recent();
  #trip = new Recent(30_000);
  #deliveries = new Rate();
  #received = 0;
  #lines = {
    latency: new Sparkline(element("latency-line")),
    trip: new Sparkline(element("trip-line")),
    deliveries: new Sparkline(element("deliveries-line")),
  };

  connected({ transport, client }) {
    this.#become("connected", `by ${TRANSPORTS[transport] ?? transport}, as ${client.slice(0, 8)}`);
  }

  connecting({ code, reason }) {
    this.#become("connecting", code === 0 ? "" : `${reason} (${code})`);
  }

  disconnected({ code, reason }) {
    this.#become("disconnected", `${reason} (${code})`);
  }

  /** A publication was shown; `late` is how long after it was sent, null when that says nothing. */
  delivered(late, now) {
    this.#received += 1;
    this.#deliveries.add(now);
    if (late !== null) this.#latency.add(late, now);
  }

  /** A command was answered after so long. */
  answered(took, now) {
    this.#trip.add(took, now);
  }

  /** Once a second. */
  tick(now) {
    const rate = this.#deliveries.perSecond(now);
    element("latency-median").textContent = milliseconds(this.#latency.quantile(0.5, now));
    element("latency-high").textContent = milliseconds(this.#latency.quantile(0.99, now));
    element("trip").textContent = milliseconds(this.#trip.quantile(0.5, now));
    element("deliveries").textContent = rate.toFixed(1);
    element("received").textContent = this.#received.toLocaleString("en");
    this.#lines.latency.add(this.#latency.quantile(0.5, now, 1000));
    this.#lines.trip.add(this.#trip.quantile(0.5, now, 2500));
    this.#lines.deliveries.add(rate);
    for (const line of Object.values(this.#lines)) line.draw();
    this.#showAge(now);
  }

  #become(state, about) {
    this.#state.dataset.state = state;
    element("state-name").textContent = state;
    this.#about = about;
    this.#since = performance.now();
    this.#showAge(this.#since);
  }

  #showAge(now) {
    const seconds = Math.floor((now - this.#since) / 1000);
    const age = seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
    element("state-about").textContent = [this.#about, `for ${age}`].filter(Boolean).join(", ");
  }
}
