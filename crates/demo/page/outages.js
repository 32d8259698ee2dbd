// The log of lost connections: what each cost, and what came back. The counts are those of the ledgers.

import { clock } from "./measure.js";

const ROWS_MAX = 50;

export class Outages {
  #body = document.querySelector("#outages");
  #none = document.querySelector("#no-outages");
  #table = document.querySelector("#lost");
  #totals = { recovered: 0, missed: 0, doubled: 0 };
  #outage = null;

  /** The connection, or a subscription, is gone. One that is gone already is gone once. */
  begin(why, now) {
    if (this.#outage?.isOpen) return;
    const element = document.createElement("tr");
    const cells = ["at", "why", "away", "recovered", "publications", "missed", "doubled"].map((name) => {
      const cell = element.insertCell();
      cell.className = ["away", "publications", "missed", "doubled"].includes(name) ? "number" : name;
      return [name, cell];
    });
    this.#outage = {
      element,
      cells: Object.fromEntries(cells),
      began: now,
      isOpen: true,
      channels: 0,
      recovered: 0,
      publications: 0,
      missed: 0,
      isMissedKnown: true,
      doubled: 0,
    };
    this.#outage.cells.at.textContent = clock(Date.now());
    this.#outage.cells.why.textContent = why;
    this.#outage.cells.away.textContent = "…";
    this.#body.prepend(element);
    while (this.#body.childElementCount > ROWS_MAX) this.#body.lastElementChild.remove();
    this.#none.hidden = true;
    this.#table.hidden = false;
  }

  /** It is back. */
  end(now) {
    const outage = this.#outage;
    if (!outage?.isOpen) return;
    outage.isOpen = false;
    outage.cells.away.textContent = `${((now - outage.began) / 1000).toFixed(1)} s`;
  }

  /** A channel came back like this. */
  returned({ recovered, missed }) {
    const outage = this.#outage;
    if (!outage) return;
    outage.channels += 1;
    if (recovered) outage.recovered += 1;
    if (missed === null) outage.isMissedKnown = false;
    this.#miss(missed ?? 0);
    this.#show();
  }

  /** A publication came with this account of it. */
  publication({ wasRecovered, missed, doubled }) {
    if (!wasRecovered && missed === 0 && !doubled) return;
    if (wasRecovered && !doubled) {
      this.#totals.recovered += 1;
      if (this.#outage) this.#outage.publications += 1;
    }
    if (doubled) {
      this.#totals.doubled += 1;
      if (this.#outage) this.#outage.doubled += 1;
    }
    this.#miss(missed);
    this.#show();
  }

  #miss(count) {
    this.#totals.missed += count;
    if (this.#outage) this.#outage.missed += count;
  }

  #show() {
    for (const [name, count] of Object.entries(this.#totals)) {
      const element = document.querySelector(`#${name}`);
      element.textContent = count.toLocaleString("en");
      if (name !== "recovered") element.className = count === 0 ? "" : "bad";
    }
    const outage = this.#outage;
    if (!outage) return;
    const { element, cells } = outage;
    const isWhole = outage.recovered === outage.channels;
    const verdict = document.createElement("span");
    verdict.className = isWhole ? "good" : "bad";
    verdict.textContent = isWhole ? "all" : outage.recovered === 0 ? "none" : "in part";
    cells.recovered.replaceChildren(verdict, ` ${outage.recovered} of ${outage.channels}`);
    cells.publications.textContent = outage.publications;
    cells.missed.textContent = outage.isMissedKnown ? outage.missed : "unknown";
    cells.doubled.textContent = outage.doubled;
    // For whoever reads the page by program.
    Object.assign(element.dataset, {
      recovered: isWhole,
      channels: outage.channels,
      publications: outage.publications,
      missed: outage.isMissedKnown ? outage.missed : "unknown",
      doubled: outage.doubled,
    });
  }
}
