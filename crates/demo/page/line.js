// The page's only way to the network, so that it can be cut: the SDK is given these in place of the
// browser's own WebSocket, EventSource and fetch. What they carry is none of their business.

/** What a network that is gone looks like to a page: no close frame, no reason. */
const GONE = { code: 1006, reason: "the network is gone", wasClean: false };

/** A way to the network; told of each change by `onchange`. */
export class Line {
  /** Called when the line is cut, and when it is mended. */
  onchange = () => {};
  #cut = null;
  #open = new Set();

  /** Whether nothing gets through. */
  get isCut() {
    return this.#cut !== null;
  }

  /** Cuts everything that is open, and lets nothing open until `seconds` have passed. */
  cut(seconds) {
    if (this.isCut) return;
    this.#cut = setTimeout(() => this.mend(), seconds * 1000);
    for (const one of [...this.#open]) one.cut();
    this.onchange();
  }

  /** Lets everything through again, and says so as a browser does. */
  mend() {
    clearTimeout(this.#cut);
    this.#cut = null;
    for (const one of [...this.#open]) one.mended();
    this.onchange();
    dispatchEvent(new Event("online"));
  }

  /** What the SDK takes for the browser's. */
  get parts() {
    const line = this;
    return {
      websocket: class extends LineSocket {
        constructor(...socket) {
          super(line, socket);
        }
      },
      eventsource: class extends LineEvents {
        constructor(url) {
          super(line, url);
        }
      },
      fetch: (url, options) => line.#fetch(url, options),
    };
  }

  /** Counts something as open; it has `cut` and `mended`. */
  add(one) {
    this.#open.add(one);
  }

  /** It is not any longer. */
  remove(one) {
    this.#open.delete(one);
  }

  async #fetch(url, options) {
    if (this.isCut) throw new TypeError(GONE.reason);
    const abort = new AbortController();
    const signals = [abort.signal, options?.signal].filter(Boolean);
    const one = { cut: () => abort.abort(), mended: () => this.remove(one) };
    const done = () => this.remove(one);
    this.add(one);
    try {
      const response = await fetch(url, { ...options, signal: AbortSignal.any(signals) });
      // An answer without a body may have none put on it.
      if (response.body === null || response.status === 204) {
        done();
        return response;
      }
      // It counts as open until its body has ended, which for a stream is long after now.
      const body = response.body.pipeThrough(new TransformStream({ flush: done, cancel: done }));
      return new Response(body, response);
    } catch (error) {
      done();
      throw error;
    }
  }
}

/** A WebSocket that can be cut. The server is told nothing of that: it finds out, as of any other. */
class LineSocket {
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  #line;
  #socket = null;
  #isCut = false;

  constructor(line, socket) {
    this.#line = line;
    if (line.isCut) {
      setTimeout(() => this.onclose?.(GONE), 0);
      return;
    }
    this.#socket = new WebSocket(...socket);
    line.add(this);
    for (const kind of ["open", "message", "error", "close"]) {
      this.#socket.addEventListener(kind, (event) => {
        if (kind === "close") line.remove(this);
        if (!this.#isCut) this[`on${kind}`]?.(event);
      });
    }
  }

  set binaryType(type) {
    if (this.#socket) this.#socket.binaryType = type;
  }

  send(data) {
    if (!this.#isCut) this.#socket?.send(data);
  }

  close(...why) {
    // Of a cut line the server hears nothing before it is mended.
    if (!this.#isCut) this.#socket?.close(...why);
  }

  cut() {
    this.#isCut = true;
    this.onclose?.(GONE);
  }

  mended() {
    if (this.#isCut) this.#socket.close();
  }
}

/** An EventSource that can be cut. It does not try again by itself: the SDK does. */
class LineEvents {
  onopen = null;
  onmessage = null;
  onerror = null;
  #line;
  #source = null;

  constructor(line, url) {
    this.#line = line;
    if (line.isCut) {
      setTimeout(() => this.onerror?.(new Event("error")), 0);
      return;
    }
    this.#source = new EventSource(url);
    line.add(this);
    for (const kind of ["open", "message", "error"]) {
      this.#source.addEventListener(kind, (event) => this[`on${kind}`]?.(event));
    }
  }

  close() {
    this.#line.remove(this);
    this.#source?.close();
  }

  cut() {
    this.close();
    this.onerror?.(new Event("error"));
  }

  mended() {}
}
