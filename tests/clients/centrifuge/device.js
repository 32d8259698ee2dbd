// node device.js URL json|protobuf CHANNEL COMMANDS: what a device says in CHANNEL is answered in COMMANDS. Prints
// what came, and who it was from.
const { client, next, pack, unpack, main } = require("./sdk.js");
const [url, encoding, channel, commands] = process.argv.slice(2);

main(async () => {
  const page = client(url, encoding);
  page.connect();
  const readings = page.newSubscription(channel);
  readings.subscribe();
  const { data, info } = await next(readings, "publication");
  const reading = unpack(encoding, data);
  await page.publish(commands, pack(encoding, `open ${reading.device}`));
  page.disconnect();
  return { reading, user: info.user, client: info.client.length };
});
