// The Node package `ws` as a client: node node.js ws://host:port/path. Prints what it saw as JSON.
const { WebSocket } = require("../.tools/node_modules/ws");
const { conversation, tooBig } = require("./conversation.js");

const url = process.argv[2];
const connect = () => new WebSocket(url);

async function pong() {
  const socket = connect();
  await new Promise((resolve) => { socket.onopen = resolve; });
  const pong = new Promise((resolve) => { socket.on("pong", resolve); });
  socket.ping("are you there?");
  const payload = await pong;
  socket.terminate();
  return `pong: ${payload}`;
}

async function fragments() {
  const socket = connect();
  await new Promise((resolve) => { socket.onopen = resolve; });
  const whole = new Promise((resolve) => { socket.onmessage = resolve; });
  socket.send("one, ", { fin: false });
  socket.send("two, ", { fin: false });
  socket.send("three", { fin: true });
  const { data } = await whole;
  socket.terminate();
  return `whole: ${data}`;
}

(async () => {
  const seen = await conversation(connect);
  seen.push(await tooBig(connect), await pong(), await fragments());
  console.log(JSON.stringify(seen));
})();
