// node tokens.js URL SECRET: connections and subscriptions with tokens, made here: good ones, ones that expire
// and are refreshed, and bad ones.
const { client, next, sign, main } = require("./sdk.js");
const [url, secret] = process.argv.slice(2);

const signed = (claims) => sign(secret, claims);
const now = () => Math.floor(Date.now() / 1000);

main(async () => {
  const seen = {};
  const claims = { sub: "ann", info: { name: "Ann" }, subs: { "user_ann": {}, news: {} } };
  let refreshed = 0;
  const ann = client(url, "json", {
    token: signed({ ...claims, exp: now() + 2 }),
    getToken: async () => { refreshed += 1; return signed({ ...claims, exp: now() + 3600 }); },
  });
  const serverSide = [];
  ann.on("subscribed", (event) => serverSide.push(event.channel));
  const pushed = next(ann, "publication");
  ann.connect();
  await next(ann, "connected");
  seen.serverSide = serverSide.sort();

  const secretRoom = ann.newSubscription("$secret", {
    token: signed({ sub: "ann", channel: "$secret", exp: now() + 3600 }),
  });
  secretRoom.subscribe();
  await next(secretRoom, "subscribed");
  const denied = ann.newSubscription("$other", {
    token: signed({ sub: "ann", channel: "$other", exp: 1 }),
    getToken: async () => "",
  });
  denied.subscribe();
  seen.denied = (await next(denied, "unsubscribed")).code;
  await ann.publish("news", { n: 1 });
  seen.pushed = (await pushed).channel;
  seen.info = (await ann.presence("news")).clients[ann._client].connInfo;
  await new Promise((resolve) => { setTimeout(resolve, 3000); });
  seen.refreshed = refreshed;
  seen.state = ann.state;

  const mallory = client(url, "json", { token: `${signed({ sub: "ann" }).slice(0, -4)}AAAA` });
  mallory.connect();
  seen.forged = (await next(mallory, "disconnected")).code;
  const nobody = client(url, "json");
  nobody.connect();
  seen.nobody = (await next(nobody, "disconnected")).code;
  return seen;
});
