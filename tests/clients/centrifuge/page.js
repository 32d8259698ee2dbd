// What sdk.js gives the scripts here, for one that runs in a page: the SDK is the browser build, which is
// there already, and what a script sees is what `main` promises.
const { client, next, until, pack, unpack, main } = (() => {
  function endpoint(url) {
    if (url.startsWith("ws")) return url;
    const transport = url.split("/").pop();
    return [{ transport, endpoint: url }];
  }
  return {
    client: (url, encoding, options = {}) => {
      const quick = { minReconnectDelay: 20, maxReconnectDelay: 200, timeout: 4000 };
      return new Centrifuge(endpoint(url), { ...quick, ...options });
    },
    next: (emitter, name) => new Promise((resolve) => { emitter.once(name, resolve); }),
    until: async (what, holds) => {
      const end = Date.now() + 10000;
      while (!holds()) {
        if (Date.now() > end) throw new Error(`timeout: ${what}`);
        await new Promise((resolve) => { setTimeout(resolve, 5); });
      }
    },
    pack: (encoding, value) =>
      encoding === "protobuf" ? new TextEncoder().encode(JSON.stringify(value)) : value,
    unpack: (encoding, data) =>
      encoding === "protobuf" ? JSON.parse(new TextDecoder().decode(data)) : data,
    main: (run) => run(),
  };
})();
