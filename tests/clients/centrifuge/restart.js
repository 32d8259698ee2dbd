// node restart.js URL: subscribed to weir, which ends and is started again at the same place. Prints
// what the subscriber was told.
const { client, next, main } = require("./sdk.js");
const [url] = process.argv.slice(2);

main(async () => {
  const ann = client(url, "json");
  const seen = { connecting: [] };
  ann.on("connecting", (event) => seen.connecting.push(event.code));
  ann.connect();
  const room = ann.newSubscription("room", { recoverable: true });
  room.subscribe();
  await next(room, "subscribed");
  await room.publish({ n: 1 });
  const back = await next(room, "subscribed");
  seen.wasRecovering = back.wasRecovering;
  seen.recovered = back.recovered;
  await room.publish({ n: 2 });
  seen.offset = (await room.history({ limit: 0 })).offset;
  return seen;
});
