// node hooks.js URL json|protobuf: what a client notices of a backend that has its say.
const { client, next, until, pack, unpack, main } = require("./sdk.js");
const [url, encoding] = process.argv.slice(2);

main(async () => {
  const seen = {};
  const ann = client(url, encoding, { data: pack(encoding, { pin: 1 }), name: "hooks.js" });
  const greeted = next(ann, "subscribed");
  ann.connect();
  // Optimistic: behind a connect that waits for its backend.
  const room = ann.newSubscription("asked:room", { data: pack(encoding, { seat: 3 }) });
  const published = [];
  room.on("publication", (event) => published.push(unpack(encoding, event.data)));
  room.subscribe();
  const connected = await next(ann, "connected");
  seen.connected = unpack(encoding, connected.data);
  seen.greeted = (await greeted).channel;
  seen.subscribed = unpack(encoding, (await next(room, "subscribed")).data);

  await room.publish(pack(encoding, { text: "hello" }));
  await until("a publication", () => published.length === 1);
  seen.published = published;
  seen.refused = await room.publish(pack(encoding, { text: "curse" })).catch((error) => error);
  seen.sum = unpack(encoding, (await ann.rpc("add", pack(encoding, [1, 2]))).data);
  seen.failed = await ann.rpc("fail", pack(encoding, {})).catch((error) => error);

  const secret = ann.newSubscription("asked:secret");
  const unsubscribed = next(secret, "unsubscribed");
  secret.subscribe();
  seen.secret = (await unsubscribed).code;
  const gone = next(ann, "disconnected");
  ann.rpc("leave", pack(encoding, {})).catch(() => {});
  const { code, reason } = await gone;
  seen.gone = [code, reason];
  return seen;
});
