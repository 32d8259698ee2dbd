// node cut.js HOST PORT json|protobuf: the network is cut between a subscriber and weir, again and
// again, while somebody publishes. Prints what the subscriber saw.
const net = require("net");
const { client, next, until, pack, unpack, main } = require("./sdk.js");
const [host, port, encoding] = process.argv.slice(2);
const ROUNDS = 5;

// A wire that can be cut: everything through it breaks, and nothing passes until it is mended.
function wire() {
  const sockets = new Set();
  let whole = true;
  const server = net.createServer((near) => {
    if (!whole) return near.destroy();
    const far = net.connect(Number(port), host);
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.pipe(other);
      one.on("error", () => {});
      one.on("close", () => { sockets.delete(one); other.destroy(); });
    }
  });
  return {
    server,
    cut() { whole = false; for (const socket of sockets) socket.destroy(); },
    mend() { whole = true; },
  };
}

main(async () => {
  const between = wire();
  await new Promise((resolve) => { between.server.listen(0, "127.0.0.1", resolve); });
  const path = "/connection/websocket";
  const far = client(`ws://127.0.0.1:${between.server.address().port}${path}`, encoding);
  const near = client(`ws://${host}:${port}${path}`, encoding);
  far.connect();
  near.connect();
  const room = far.newSubscription("cut", { recoverable: true });
  const [got, recovered] = [[], []];
  room.on("publication", (event) => got.push(unpack(encoding, event.data)));
  room.on("subscribed", (event) => { if (event.wasRecovering) recovered.push(event.recovered); });
  room.subscribe();
  await next(room, "subscribed");
  let n = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    await near.publish("cut", pack(encoding, n++));
    const lost = next(room, "subscribing");
    between.cut();
    await lost;
    for (let i = 0; i < 7; i += 1) await near.publish("cut", pack(encoding, n++));
    const back = next(room, "subscribed");
    between.mend();
    await back;
  }
  await near.publish("cut", pack(encoding, n++));
  await until("the last one", () => got.includes(n - 1));
  return { exact: got.every((value, at) => value === at) && got.length === n, n, recovered };
});
