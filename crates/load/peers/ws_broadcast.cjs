// Publish and subscribe as the documentation of Node's `ws` teaches it: what comes in on /pub is sent to
// everybody on another path.
//
// Usage: ws_broadcast.cjs PORT

const { WebSocket, WebSocketServer } = require("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
const subscribers = new Set();

server.on("connection", (socket, request) => {
  socket.on("error", console.error);
  if (request.url === "/pub") {
    socket.on("message", (data) => {
      for (const subscriber of subscribers) {
        if (subscriber.readyState === WebSocket.OPEN) subscriber.send(data, { binary: false });
      }
    });
    return;
  }
  subscribers.add(socket);
  socket.on("close", () => subscribers.delete(socket));
});
