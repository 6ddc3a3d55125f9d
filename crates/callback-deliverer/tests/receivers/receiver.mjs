// A receiver that verifies with the JavaScript of docs/receiving.md. Each of the query's `secret` must verify.
import http from "node:http";

import { verify, verifyHub } from "./snippet.mjs";

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const body = Buffer.concat(chunks);
    const query = new URL(request.url, "http://localhost").searchParams;
    try {
      for (const secret of query.getAll("secret")) verify(request.headers, body.toString(), secret);
      await verifyHub(request.headers, body, query.get("hub"));
      JSON.parse(body.toString());
      response.statusCode = 204;
    } catch (error) {
      console.error(`receiver.mjs refuses: ${error.message}`);
      response.statusCode = 400;
    }
    response.end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
