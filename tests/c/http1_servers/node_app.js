// What record_http1.py asks Node for: `node_app.js PORT`.
const http = require('http');

function stream(response) {
  const texts = ['Hel', 'lo', '[DONE]'];
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const timer = setInterval(() => {
    if (texts.length > 0) return response.write(`data: ${texts.shift()}\n\n`);
    clearInterval(timer);
    return response.end();
  }, 20);
}

const pages = {
  '/stream': stream,
  '/empty': (response) => response.writeHead(204).end(),
  '/same': (response) => response.writeHead(304, { ETag: '"a"' }).end(),
  '/error': (response) => response.writeHead(500).end(),
  '/hints': (response) => {
    response.writeEarlyHints({ link: '</a>; rel=preload' });
    response.end('hinted');
  },
  '/trailers': (response) => {
    response.writeHead(200, { Trailer: 'X-Sum' });
    response.write('abc');
    response.addTrailers({ 'X-Sum': '1' });
    response.end();
  },
};

const options = { headersTimeout: 1500, requestTimeout: 1500, connectionsCheckingInterval: 100, keepAliveTimeout: 20000 };
const server = http.createServer(options, (request, response) => {
  let received = 0;
  request.on('data', (data) => { received += data.length; });
  request.on('end', () => {
    if (pages[request.url]) return pages[request.url](response);
    const found = request.url === '/json';
    const body = JSON.stringify(found ? { object: 'text_completion', received } : { detail: 'Not Found' });
    response.writeHead(found ? 200 : 404, { 'Content-Type': 'application/json', 'Content-Length': body.length });
    return response.end(body);
  });
});
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
  socket.pipe(socket);
});
server.listen(Number(process.argv[2]), '127.0.0.1');
