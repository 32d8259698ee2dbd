// A line of the last values in a small canvas, in the canvas's own text colour.

export class Sparkline {
  #canvas;
  #values = [];
  #max;

  /** At most `max` values are kept. */
  constructor(canvas, max = 60) {
    this.#canvas = canvas;
    this.#max = max;
  }

  /** Adds a value, or null for a moment without one. */
  add(value) {
    this.#values.push(value);
    if (this.#values.length > this.#max) this.#values.shift();
  }

  /** Draws the line. From zero when `isFromZero`, else from the least value. */
  draw(isFromZero = true) {
    const canvas = this.#canvas;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const known = this.#values.filter((value) => value !== null);
    if (known.length === 0) return;
    const least = isFromZero ? 0 : Math.min(...known);
    const span = Math.max(...known) - least || 1;
    const step = width / (this.#max - 1);
    const from = this.#max - this.#values.length;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.beginPath();
    let isDown = false;
    this.#values.forEach((value, at) => {
      if (value === null) {
        isDown = false;
        return;
      }
      const point = [(from + at) * step, height - 2 - ((value - least) / span) * (height - 4)];
      if (isDown) pen.lineTo(...point);
      else pen.moveTo(...point);
      isDown = true;
    });
    pen.stroke();
  }
}
