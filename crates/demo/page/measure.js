// Rates and percentiles over the last seconds. Time is an argument, in milliseconds.

/** How many a second there were over the last `window` milliseconds. */
export class Rate {
  #times = [];
  #window;

  constructor(window = 5000) {
    this.#window = window;
  }

  add(now) {
    this.#times.push(now);
    // A burst is counted whole and kept within bounds.
    if (this.#times.length > 10_000) this.#times.splice(0, 5_000);
  }

  perSecond(now) {
    while (this.#times.length > 0 && this.#times[0] <= now - this.#window) this.#times.shift();
    return (this.#times.length * 1000) / this.#window;
  }
}

/** Values of the last `window` milliseconds, at most 2000 of them. */
export class Recent {
  #values = [];
  #window;

  constructor(window = 10_000) {
    this.#window = window;
  }

  add(value, now) {
    this.#values.push({ value, now });
    if (this.#values.length > 2000) this.#values.splice(0, 1000);
  }

  /** The value that this share of them is not above; null when there is none. */
  quantile(share, now, window = this.#window) {
    this.#values = this.#values.filter((one) => one.now > now - this.#window);
    const values = this.#values.filter((one) => one.now > now - window).map((one) => one.value);
    if (values.length === 0) return null;
    values.sort((a, b) => a - b);
    return values[Math.min(values.length - 1, Math.floor(share * values.length))];
  }
}

/** The time of day in milliseconds, with the fractions that `Date` leaves out where they can be had. */
export function wallClock() {
  const [fine, coarse] = [performance.timeOrigin + performance.now(), Date.now()];
  // The fine one does not follow when the clock is set.
  return Math.abs(fine - coarse) < 5 ? fine : coarse;
}

/** Milliseconds as a reader wants them: three digits and no more. */
export function milliseconds(value) {
  if (value === null) return "–";
  return Math.abs(value) < 10 ? value.toFixed(2) : Math.abs(value) < 100 ? value.toFixed(1) : value.toFixed(0);
}

/** The time of day, with seconds. */
export function clock(at) {
  return new Date(at).toLocaleTimeString([], { hour12: false });
}
