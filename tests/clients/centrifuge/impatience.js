// node impatience.js URL SECRET: an application that changes its mind before weir has answered, and a network
// that comes and goes, as the SDK's own tests have it. SECRET signs tokens without a user.
const { client, next, sign, main } = require("./sdk.js");
const [url, secret] = process.argv.slice(2);

const signed = (claims) => sign(secret, claims);
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
async function connected(options) {
  const it = client(url, "json", options);
  it.connect();
  await it.ready(5000);
  return it;
}
async function left(it) {
  const end = next(it, "disconnected");
  it.disconnect();
  return (await end).code;
}
// What `ask` gives when it gives what is expected, or the last that it gave in two seconds.
async function settled(ask, expected) {
  let last;
  for (let tries = 0; tries < 20; tries += 1) {
    last = await ask();
    if (last === expected) break;
    await pause(100);
  }
  return last;
}

main(async () => {
  const seen = {};

  const early = client(url, "json");
  const answer = early.rpc("method", { a: 1 }).catch((error) => error.code);
  early.connect();
  seen.rpc = await answer;
  for (let n = 0; n < 10; n += 1) { early.disconnect(); early.connect(); }
  await early.ready(5000);
  seen.connectLoop = await left(early);

  const looping = await connected();
  const channel = `loop${Math.random()}`;
  const sub = looping.newSubscription(channel);
  for (let n = 0; n < 10; n += 1) { sub.subscribe(); sub.unsubscribe(); }
  sub.subscribe();
  const present = async () => Object.keys((await looping.presence(channel)).clients).length;
  const counted = async () => (await looping.presenceStats(channel)).numUsers;
  seen.present = [await settled(present, 1), await settled(counted, 1)];
  sub.unsubscribe();
  seen.absent = [await settled(present, 0), await settled(counted, 0)];

  const again = looping.newSubscription("news");
  again.subscribe();
  looping.disconnect();
  looping.connect();
  again.unsubscribe();
  again.subscribe();
  await again.ready(5000);
  seen.again = await left(looping);

  const network = new EventTarget();
  const moving = client(url, "json", { networkEventTarget: network });
  moving.once("__centrifuge_debug:transport_initialized", () => {
    network.dispatchEvent(new Event("offline"));
  });
  moving.connect();
  await moving.ready(5000);
  const cut = next(moving, "connecting");
  network.dispatchEvent(new Event("offline"));
  seen.cut = (await cut).code;
  network.dispatchEvent(new Event("online"));
  await moving.ready(5000);
  seen.moved = await left(moving);

  let tokens = 0;
  const slow = (claims) => async () => {
    tokens += 1;
    await pause(Math.random() * 100);
    return signed({ iat: 1738078824, ...claims });
  };
  for (let n = 0; n < 5; n += 1) {
    const known = client(url, "json", { getToken: slow({}) });
    known.connect();
    const own = known.newSubscription("test1", { getToken: slow({ channel: "test1" }) });
    own.subscribe();
    await own.ready(5000);
    await left(known);
  }
  seen.tokens = tokens;
  return seen;
});
