// The panel of the chat. What others write is text and never markup, and there is room for so much of it.

import { Rate, clock } from "./measure.js";

const MESSAGES_MAX = 200;
const NAME_CHARACTERS_MAX = 24;
const TEXT_CHARACTERS_MAX = 500;

export class Chat {
  #messages = document.querySelector("#messages");
  #name = document.querySelector("#name");
  #text = document.querySelector("#text");
  #send = document.querySelector("#say button");
  #problem = document.querySelector("#chat-problem");
  #present = document.querySelector("#present");
  #shownRate = document.querySelector("#chat-rate");
  #rate = new Rate();

  /** `publish` sends a message and gives a promise of its acknowledgement. */
  constructor(publish) {
    this.#name.value = sessionStorage.getItem("name") ?? `guest-${Math.floor(Math.random() * 9000 + 1000)}`;
    this.#name.addEventListener("change", () => sessionStorage.setItem("name", this.#name.value));
    document.querySelector("#say").addEventListener("submit", async (event) => {
      event.preventDefault();
      await this.#say(publish);
    });
  }

  async #say(publish) {
    const [name, text] = [this.#name.value.trim(), this.#text.value.trim()];
    if (name === "" || text === "") return;
    this.#send.disabled = true;
    this.#problem.hidden = true;
    try {
      await publish({ name, text, at: Date.now() });
      this.#text.value = "";
    } catch (error) {
      // What is not acknowledged stays where it was written.
      this.#problem.textContent = `Not sent: ${error.message ?? error}${error.code ? ` (${error.code})` : ""}`;
      this.#problem.hidden = false;
    } finally {
      this.#send.disabled = false;
      this.#text.focus();
    }
  }

  /** Shows a message: `{name, text, at}`. */
  show(message, { wasRecovered, isLive }, now) {
    if (typeof message.name !== "string" || typeof message.text !== "string") return;
    if (isLive) this.#rate.add(now);
    const item = document.createElement("li");
    const [who, time] = [document.createElement("span"), document.createElement("time")];
    who.className = "who";
    who.textContent = message.name.slice(0, NAME_CHARACTERS_MAX);
    if (Number.isFinite(message.at)) time.textContent = clock(message.at);
    item.append(who, ` ${message.text.slice(0, TEXT_CHARACTERS_MAX)} `, time);
    item.classList.toggle("mine", message.name === this.#name.value);
    item.classList.toggle("recovered", wasRecovered);
    const list = this.#messages;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(item);
    while (list.childElementCount > MESSAGES_MAX) list.firstElementChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  /** How many clients are in the room, this one included. */
  present(count) {
    this.#present.textContent = count === 1 ? "you are here alone" : `${count} here`;
  }

  /** Once a second. */
  tick(now) {
    this.#shownRate.textContent = this.#rate.perSecond(now).toFixed(1);
  }
}
