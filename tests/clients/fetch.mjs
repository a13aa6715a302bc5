// Requests by Node's fetch: a line of JSON on standard input each, and a line on standard output for each response.
import { subscribe } from "node:diagnostics_channel";
import { createInterface } from "node:readline";

let connections = 0;
subscribe("undici:client:connected", () => { connections += 1; });

for await (const line of createInterface({ input: process.stdin })) {
  const { method, url, body } = JSON.parse(line);
  const told = {};
  try {
    const response = await fetch(url, { method, body: body === null ? undefined : Buffer.from(body, "base64") });
    told.status = response.status;
    told.body = Buffer.from(await response.arrayBuffer()).toString("base64");
  } catch (error) {
    told.error = `${error}: ${error.cause}`;
  }
  console.log(JSON.stringify({ ...told, connections }));
}
