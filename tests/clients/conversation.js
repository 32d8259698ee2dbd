// What a client that is not weir's does with a WebSocket of weir's. Runs as it is in a browser's
// page and in Node: `connect()` opens a socket with the interface of the browsers' WebSocket.
// Resolves to a list of what was seen, in order.
async function conversation(connect) {
  const seen = [];
  const inbox = [];
  let arrived = () => {};
  const socket = connect();
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => { inbox.push(event.data); arrived(); };
  const opened = new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("no connection"));
  });
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  const next = async () => {
    while (inbox.length === 0) await new Promise((resolve) => { arrived = resolve; });
    return inbox.shift();
  };

  await opened;
  socket.send("hello");
  seen.push(await next());
  socket.send("żółw, 鱼, 🐟");
  seen.push(await next());
  socket.send(new Uint8Array([0, 127, 128, 255]));
  seen.push(Array.from(new Uint8Array(await next())).join(" "));
  socket.send("x".repeat(60000));
  seen.push((await next()).length);

  for (let n = 0; n < 200; n++) socket.send(`message ${n}`);
  let inOrder = true;
  for (let n = 0; n < 200; n++) inOrder &&= (await next()) === `message ${n}`;
  seen.push(`in order: ${inOrder}`);

  socket.close(1000, "bye");
  const { code, wasClean } = await closed;
  seen.push(`closed: ${code} ${wasClean ? "clean" : "not clean"}`);
  return seen;
}

// A message over the limit: resolves to the code and the reason that weir closes with.
async function tooBig(connect) {
  const socket = connect();
  const closed = new Promise((resolve) => { socket.onclose = resolve; });
  await new Promise((resolve) => { socket.onopen = resolve; });
  socket.send("x".repeat(70000));
  const { code, reason } = await closed;
  return `closed: ${code} ${reason}`;
}

if (typeof module !== "undefined") module.exports = { conversation, tooBig };
