// The account of one channel: what came, what was recovered, and by the offsets whether anything is
// missing or came twice. It asks nobody and shows nothing.


export class Ledger {
  #offset = null;
  #epoch = "";
  #isRecovering = false;

  /** Takes note of a subscription. Returns how it came back, or null for the first time. */
  subscribed({ recovered, streamPosition }) {
    const { offset, epoch } = streamPosition ?? { offset: 0, epoch: "" };
    const [last, lastEpoch] = [this.#offset, this.#epoch];
    this.#epoch = epoch;
    if (recovered && last !== null) {
      // The SDK tells of what was recovered right behind this, before anything else can come.
      this.#isRecovering = true;
      queueMicrotask(() => {
        this.#isRecovering = false;
      });
      return { recovered, missed: 0 };
    }
    this.#offset = offset;
    if (last === null) return null;
    return { recovered: false, missed: epoch === lastEpoch ? offset - last : null };
  }

  /**
   * Takes note of a publication. `missed` is how many before it did not come; one that is `doubled`
   * came before.
   */
  publication({ offset }) {
    const wasRecovered = this.#isRecovering;
    if (offset === undefined || this.#offset === null) return { wasRecovered, missed: 0, doubled: false };
    if (offset <= this.#offset) return { wasRecovered, missed: 0, doubled: true };
    const missed = offset - this.#offset - 1;
    this.#offset = offset;
    return { wasRecovered, missed, doubled: false };
  }
}
