// node conversation.js URL json|protobuf: every command of the SDK once, with its answer.
const { client, next, until, pack, unpack, main } = require("./sdk.js");
const [url, encoding] = process.argv.slice(2);

main(async () => {
  const seen = {};
  const [ann, bob] = [client(url, encoding), client(url, encoding)];
  ann.connect();
  // Optimistic: in the same frame as the connect.
  const room = ann.newSubscription("room", { recoverable: true, positioned: true, joinLeave: true });
  const joined = [];
  room.on("join", (event) => joined.push(event.info.client));
  const left = next(room, "leave");
  const published = [];
  room.on("publication", (event) => published.push([event.offset, unpack(encoding, event.data)]));
  room.subscribe();
  const connected = await next(ann, "connected");
  const subscribed = await next(room, "subscribed");
  seen.transport = connected.transport;
  seen.subscribed = [subscribed.recoverable, subscribed.positioned, subscribed.wasRecovering];

  bob.connect();
  const second = bob.newSubscription("room");
  second.subscribe();
  const { client: bobs } = await next(bob, "connected");
  await next(second, "subscribed");
  await bob.publish("room", pack(encoding, { n: 1 }));
  await room.publish(pack(encoding, { n: "żółw" }));
  await until("two publications", () => published.length === 2);
  seen.published = published;
  seen.joined = joined.includes(connected.client) && joined.includes(bobs);

  const history = await room.history({ limit: 10 });
  seen.history = history.publications.map((one) => unpack(encoding, one.data));
  seen.reversed = (await room.history({ limit: 1, reverse: true })).publications.map((one) => one.offset);
  const { clients } = await room.presence();
  seen.presence = Object.keys(clients).sort().join() === [connected.client, bobs].sort().join();
  seen.stats = await room.presenceStats();
  seen.rpc = await ann.rpc("nothing", pack(encoding, {})).catch((error) => error.code);
  seen.unknown = await ann.publish("nowhere:room", pack(encoding, 1)).catch((error) => error.code);

  second.unsubscribe();
  seen.left = (await left).info.client === bobs;
  await ann.publish("room", pack(encoding, 3));
  await until("the third", () => published.length === 3);
  ann.disconnect();
  bob.disconnect();
  return seen;
});
