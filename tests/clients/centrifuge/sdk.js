// What the scripts here share: the unchanged JavaScript SDK of the client protocol, over Node's `ws` and `eventsource`.
const crypto = require("crypto");
const path = require("path");
const tools = path.join(__dirname, "../../.tools/node_modules");
const { Centrifuge } = require(path.join(tools, "centrifuge"));
const Protobuf = require(path.join(tools, "centrifuge/build/protobuf"));
const { WebSocket } = require(path.join(tools, "ws"));
const { EventSource } = require(path.join(tools, "eventsource"));

// What the SDK is to connect to: a WebSocket, or the stream that the path's last part names.
function endpoint(url) {
  if (url.startsWith("ws")) return [url, { websocket: WebSocket }];
  const transport = url.split("/").pop();
  const emulationEndpoint = new URL("/emulation", url).href;
  return [[{ transport, endpoint: url }], { eventsource: EventSource, emulationEndpoint }];
}

// A client of `url` in "json" or "protobuf".
function client(url, encoding, options = {}) {
  const Sdk = encoding === "protobuf" ? Protobuf.Centrifuge : Centrifuge;
  const quick = { minReconnectDelay: 20, maxReconnectDelay: 200, timeout: 4000 };
  const [where, how] = endpoint(url);
  return new Sdk(where, { ...how, ...quick, ...options });
}

// The next event of this name.
function next(emitter, name) {
  return new Promise((resolve) => { emitter.once(name, resolve); });
}

// Until `holds`, at most 10 s.
async function until(what, holds) {
  const end = Date.now() + 10000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`timeout: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 5); });
  }
}

// A payload, as an encoding carries it.
function pack(encoding, value) {
  return encoding === "protobuf" ? new TextEncoder().encode(JSON.stringify(value)) : value;
}
function unpack(encoding, data) {
  return encoding === "protobuf" ? JSON.parse(new TextDecoder().decode(data)) : data;
}

// A token with these claims (HS256).
function sign(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${message}.${crypto.createHmac("sha256", secret).update(message).digest("base64url")}`;
}

// Prints what a script saw and ends, also when it failed.
function main(run) {
  run().then(
    (seen) => { console.log(JSON.stringify(seen)); process.exit(0); },
    (error) => { console.error(error); process.exit(1); },
  );
}

module.exports = { client, next, until, pack, unpack, sign, main };
