// The panel of the quotes: a row for each symbol, by name.

import { Rate } from "./measure.js";
import { Sparkline } from "./sparkline.js";

/** More symbols than this are not shown, whoever publishes. */
const ROWS_MAX = 20;

export class Quotes {
  #body = document.querySelector("#quotes");
  #shownRate = document.querySelector("#quotes-rate");
  #rate = new Rate();
  #rows = new Map();

  /** Shows quotes: `{quotes: [[symbol, price], ...]}`. */
  show({ quotes }, { isLive }, now) {
    if (!Array.isArray(quotes)) return;
    if (isLive) this.#rate.add(now);
    for (const quote of quotes) {
      const [symbol, price] = Array.isArray(quote) ? quote : [];
      if (typeof symbol !== "string" || typeof price !== "number") continue;
      const row = this.#rows.get(symbol) ?? this.#add(symbol, price);
      if (row) this.#set(row, price, isLive);
    }
  }

  /** Once a second: what need not be shown more often. */
  tick(now) {
    this.#shownRate.textContent = this.#rate.perSecond(now).toFixed(1);
    for (const row of this.#rows.values()) row.line.draw(false);
  }

  #add(symbol, price) {
    if (this.#rows.size >= ROWS_MAX) return null;
    const element = document.createElement("tr");
    element.dataset.symbol = symbol;
    const [name, shown, change, lately] = ["th", "td", "td", "td"].map((kind) => document.createElement(kind));
    const [text, canvas] = [document.createElement("span"), document.createElement("canvas")];
    name.scope = "row";
    name.textContent = symbol;
    shown.className = "number price";
    shown.append(text);
    change.className = "number";
    lately.className = "wide";
    canvas.setAttribute("aria-hidden", "true");
    lately.append(canvas);
    element.append(name, shown, change, lately);
    const behind = [...this.#body.rows].find((row) => row.dataset.symbol > symbol);
    this.#body.insertBefore(element, behind ?? null);
    const row = { text, change, canvas, line: new Sparkline(canvas, 80), first: price, price };
    this.#rows.set(symbol, row);
    return row;
  }

  #set(row, price, isLive) {
    const way = price > row.price ? "up" : price < row.price ? "down" : "";
    row.price = price;
    row.line.add(price);
    row.text.textContent = price.toFixed(2);
    const change = (price / row.first - 1) * 100;
    row.change.textContent = `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(2)} %`;
    row.change.className = `number ${change < 0 ? "down" : "up"}`;
    row.canvas.className = change < 0 ? "down" : "up";
    if (!isLive || way === "") return;
    row.text.className = `${way} flash`;
    requestAnimationFrame(() => requestAnimationFrame(() => row.text.classList.remove("flash")));
  }
}
