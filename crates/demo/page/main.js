// Puts the page together: one connection by the SDK, a subscription for each channel, and the panels
// that show what comes.

import { Chat } from "./chat.js";
import { Ledger } from "./ledger.js";
import { Line } from "./line.js";
import { wallClock } from "./measure.js";
import { Outages } from "./outages.js";
import { Quotes } from "./quotes.js";
import { SENSORS, Sensors } from "./sensors.js";
import { Status } from "./status.js";

const TICK = 1000;
/** How often a command is sent to see how long its reply takes. */
const TRIP = 2000;
/** Most publications of a history that are asked for, which is most that weir gives at once. */
const HISTORY_MAX = 300;
/** Silence from here on is worth a word. */
const SILENCE = 3000;

const ROOM = "chat:lobby";

/** Every way there is, best first, or the one that the page's address names. */
function transports() {
  const host = location.host;
  const socket = location.protocol === "https:" ? "wss" : "ws";
  const all = [
    { transport: "websocket", endpoint: `${socket}://${host}/connection/websocket` },
    { transport: "http_stream", endpoint: "/connection/http_stream" },
    { transport: "sse", endpoint: "/connection/sse" },
  ];
  const one = all.filter(({ transport }) => transport === asked());
  return one.length > 0 ? one : all;
}

function asked() {
  return new URLSearchParams(location.search).get("transport") ?? "";
}

const line = new Line();
const client = new globalThis.Centrifuge(transports(), {
  ...line.parts,
  name: "weir-demo",
  minReconnectDelay: 200,
  maxReconnectDelay: 3000,
});

const status = new Status();
const outages = new Outages();
const sensors = new Sensors();
const quotes = new Quotes();
const room = client.newSubscription(ROOM);
const chat = new Chat((message) => room.publish(message));
let heard = null;

client.on("connecting", (context) => {
  status.connecting(context);
  // The first time nothing was lost.
  if (context.code === 0) return;
  outages.begin(`${context.reason} (${context.code})`, performance.now());
  sensors.cut(true);
});
client.on("connected", (context) => {
  status.connected(context);
  outages.end(performance.now());
  sensors.cut(false);
});
client.on("disconnected", (context) => status.disconnected(context));

/** Everybody may publish here, and not everything can be shown. */
function isShown({ data }) {
  return typeof data === "object" && data !== null;
}

/** Subscribes to a channel, and shows what is in its history before what is new. */
function follow(channel, subscription, show) {
  const ledger = new Ledger();
  let waiting = null;

  async function backfill({ offset }) {
    waiting = [];
    try {
      const history = await subscription.history({ limit: HISTORY_MAX, reverse: true });
      const before = history.publications.filter((one) => one.offset <= offset).reverse();
      const account = { wasRecovered: false, isLive: false };
      for (const { data } of before.filter(isShown)) show(data, account, performance.now());
    } catch (error) {
      console.info(`no history of ${channel}: ${error.message}`);
    }
    const live = waiting;
    waiting = null;
    for (const one of live) one();
  }

  subscription.on("subscribing", ({ code, reason }) => {
    // The connection's own end is told by the client.
    if (code >= 2500) outages.begin(`${channel}: ${reason} (${code})`, performance.now());
  });
  subscription.on("subscribed", (context) => {
    const returned = ledger.subscribed(context);
    if (returned) {
      outages.returned(returned);
      outages.end(performance.now());
    }
    if (!returned?.recovered && context.streamPosition) backfill(context.streamPosition);
  });
  subscription.on("publication", (context) => {
    const [arrived, now] = [wallClock(), performance.now()];
    heard = now;
    const account = ledger.publication(context);
    outages.publication(account);
    if (account.doubled || !isShown(context)) return;
    const { at } = context.data;
    status.delivered(account.wasRecovered || typeof at !== "number" ? null : arrived - at, now);
    const shown = () => show(context.data, { wasRecovered: account.wasRecovered, isLive: true }, now);
    if (waiting) waiting.push(shown);
    else shown();
  });
  subscription.subscribe();
}

for (const sensor of SENSORS) {
  const channel = `sensors:${sensor}`;
  follow(channel, client.newSubscription(channel), (...reading) => sensors.show(sensor, ...reading));
}
follow("quotes:all", client.newSubscription("quotes:all"), (...quote) => quotes.show(...quote));
follow(ROOM, room, (...message) => chat.show(...message));

setInterval(async () => {
  if (room.state !== "subscribed" || line.isCut) return;
  const asked = performance.now();
  try {
    const { numClients } = await room.presenceStats();
    status.answered(performance.now() - asked, performance.now());
    chat.present(numClients);
  } catch {
    // The connection went meanwhile; the next time tells.
  }
}, TRIP);

setInterval(() => {
  const now = performance.now();
  for (const panel of [status, sensors, quotes, chat]) panel.tick(now);
  const isSilent = client.state === "connected" && now - (heard ?? 0) > SILENCE;
  document.querySelector("#no-feed").hidden = !isSilent;
}, TICK);

const cut = document.querySelector("#cut");
cut.addEventListener("click", () => {
  if (line.isCut) line.mend();
  else line.cut(Number(document.querySelector("#cut-for").value));
});
line.onchange = () => {
  cut.textContent = line.isCut ? "Mend it now" : "Cut the network";
};

const transport = document.querySelector("#transport");
transport.value = asked();
transport.addEventListener("change", () => {
  location.search = transport.value === "" ? "" : `?transport=${transport.value}`;
});

client.connect();
