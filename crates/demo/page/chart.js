// Lines of the last minute in a canvas: values by the time they were sent, what came by recovery with
// rings on it, and the times without a network as bands. It knows no channel.

const WINDOW = 60_000;
/** Points that are kept of one line: more than a minute of them. */
const POINTS_MAX = 1200;
const MARGIN = { top: 10, right: 12, bottom: 22, left: 40 };
const FONT = "11px system-ui, sans-serif";

export class Chart {
  #canvas;
  #lines;
  #bands = [];
  #pointer = null;
  #range = null;

  /** A chart of so many lines, each in the colour `--series-N`, with these names. */
  constructor(canvas, names) {
    this.#canvas = canvas;
    this.#lines = names.map((name) => ({ name, points: [] }));
    canvas.addEventListener("pointermove", (event) => {
      this.#pointer = event.offsetX;
    });
    canvas.addEventListener("pointerleave", () => {
      this.#pointer = null;
    });
  }

  /** Adds a value that was sent at `at`; values may come out of order. */
  add(line, at, value, wasRecovered) {
    const { points } = this.#lines[line];
    let place = points.length;
    while (place > 0 && points[place - 1].at > at) place -= 1;
    points.splice(place, 0, { at, value, wasRecovered });
    if (points.length > POINTS_MAX) points.shift();
    this.#canvas.dataset.points = this.#lines.reduce((sum, one) => sum + one.points.length, 0);
  }

  /** The network went at this time. */
  beginBand(from) {
    if (this.#bands.at(-1)?.to === null) return;
    this.#bands.push({ from, to: null });
    if (this.#bands.length > 50) this.#bands.shift();
  }

  /** It is back. */
  endBand(to) {
    const band = this.#bands.at(-1);
    if (band && band.to === null) band.to = to;
  }

  /** Draws what there is at this time. */
  draw(now) {
    const canvas = this.#canvas;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0 || height === 0) return;
    const scale = devicePixelRatio || 1;
    const [pixelsWide, pixelsHigh] = [Math.round(width * scale), Math.round(height * scale)];
    if (canvas.width !== pixelsWide || canvas.height !== pixelsHigh) {
      canvas.width = pixelsWide;
      canvas.height = pixelsHigh;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = FONT;
    const range = this.#valueRange(now);
    const frame = {
      left: MARGIN.left,
      right: width - MARGIN.right,
      top: MARGIN.top,
      bottom: height - MARGIN.bottom,
    };
    const x = (at) => frame.right - ((now - at) / WINDOW) * (frame.right - frame.left);
    const y = (value) =>
      frame.bottom - ((value - range.least) / (range.most - range.least)) * (frame.bottom - frame.top);
    const style = getComputedStyle(document.documentElement);
    const view = { pen, frame, x, y, range, now, colour: (name) => style.getPropertyValue(`--${name}`) };
    this.#drawGrid(view);
    pen.save();
    pen.beginPath();
    pen.rect(frame.left, 0, width - frame.left, height);
    pen.clip();
    this.#drawBands(view);
    this.#lines.forEach((line, at) => this.#drawLine(view, line, view.colour(`series-${at + 1}`)));
    this.#drawPointer(view);
    pen.restore();
  }

  /** The range of the values that are to be seen; it moves slowly, so that the eye can follow. */
  #valueRange(now) {
    const from = now - WINDOW;
    let [least, most] = [Infinity, -Infinity];
    for (const { points } of this.#lines) {
      for (const { at, value } of points) {
        if (at < from) continue;
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
    }
    if (least > most) [least, most] = [0, 100];
    const room = Math.max((most - least) * 0.08, 1);
    const wanted = { least: least - room, most: most + room };
    const before = this.#range ?? wanted;
    const move = (was, is) => was + (is - was) * 0.12;
    this.#range = { least: move(before.least, wanted.least), most: move(before.most, wanted.most) };
    return this.#range;
  }

  #drawGrid({ pen, frame, x, y, range, now, colour }) {
    pen.strokeStyle = colour("grid");
    pen.fillStyle = colour("quiet");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const step = niceStep((range.most - range.least) / 5);
    for (let value = Math.ceil(range.least / step) * step; value <= range.most; value += step) {
      const at = Math.round(y(value)) + 0.5;
      line(pen, frame.left, at, frame.right, at);
      pen.fillText(value.toFixed(step < 1 ? 1 : 0), frame.left - 8, at);
    }
    pen.textBaseline = "top";
    for (let seconds = 0; seconds <= 60; seconds += 15) {
      const at = Math.round(x(now - seconds * 1000)) + 0.5;
      pen.textAlign = seconds === 0 ? "right" : "center";
      pen.fillText(seconds === 0 ? "now" : `−${seconds} s`, at, frame.bottom + 7);
    }
  }

  #drawBands({ pen, frame, x, now, colour }) {
    for (const { from, to } of this.#bands) {
      const [left, right] = [x(from), x(to ?? now)];
      if (right < frame.left) continue;
      pen.fillStyle = colour("band");
      pen.fillRect(left, frame.top, right - left, frame.bottom - frame.top);
      pen.strokeStyle = colour("bad");
      pen.lineWidth = 1;
      line(pen, left, frame.top, left, frame.bottom);
      if (to !== null) line(pen, right, frame.top, right, frame.bottom);
    }
  }

  #drawLine({ pen, x, y, now, colour }, { points }, paint) {
    const seen = points.filter((point) => point.at > now - WINDOW - 2000);
    if (seen.length === 0) return;
    pen.strokeStyle = paint;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    seen.forEach((point, at) => {
      // A hole is shown as one: a line across it would be made up.
      const isApart = at === 0 || point.at - seen[at - 1].at > 3000;
      if (isApart) pen.moveTo(x(point.at), y(point.value));
      else pen.lineTo(x(point.at), y(point.value));
    });
    pen.stroke();
    pen.fillStyle = colour("panel");
    pen.lineWidth = 1.5;
    for (const point of seen.filter((point) => point.wasRecovered)) {
      pen.beginPath();
      pen.arc(x(point.at), y(point.value), 2.6, 0, 2 * Math.PI);
      pen.fill();
      pen.stroke();
    }
    const last = seen.at(-1);
    pen.fillStyle = paint;
    pen.beginPath();
    pen.arc(x(last.at), y(last.value), 3.5, 0, 2 * Math.PI);
    pen.fill();
  }

  /** The values at the pointer, beside it. */
  #drawPointer({ pen, frame, x, y, now, colour }) {
    const at = this.#pointer;
    if (at === null || at < frame.left || at > frame.right) return;
    pen.strokeStyle = colour("quiet");
    pen.lineWidth = 1;
    line(pen, at, frame.top, at, frame.bottom);
    const near = this.#lines.map(({ points }) => nearest(points, (point) => Math.abs(x(point.at) - at)));
    const isRight = at > (frame.left + frame.right) / 2;
    pen.textAlign = isRight ? "right" : "left";
    pen.textBaseline = "bottom";
    near.forEach((point, index) => {
      if (!point || point.at < now - WINDOW || Math.abs(x(point.at) - at) > 20) return;
      pen.fillStyle = colour(`series-${index + 1}`);
      pen.beginPath();
      pen.arc(x(point.at), y(point.value), 4, 0, 2 * Math.PI);
      pen.fill();
      const text = `${this.#lines[index].name} ${point.value.toFixed(1)}`;
      pen.lineWidth = 4;
      pen.strokeStyle = colour("panel");
      const beside = at + (isRight ? -8 : 8);
      pen.strokeText(text, beside, y(point.value) - 4);
      pen.fillText(text, beside, y(point.value) - 4);
    });
  }
}

function line(pen, fromX, fromY, toX, toY) {
  pen.beginPath();
  pen.moveTo(fromX, fromY);
  pen.lineTo(toX, toY);
  pen.stroke();
}

/** 1, 2 or 5 times a power of ten, at least this. */
function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least);
}

function nearest(points, distance) {
  return points.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
}
