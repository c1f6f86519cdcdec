// An Express service that uses express-idempotency as its README shows. Everything is in memory.
// `node express_idempotency.js [FOLDER]`: with a folder that has key.pem and cert.pem, it listens on https too.
const { readFileSync } = require('node:fs');
const { randomUUID } = require('node:crypto');
const { setTimeout: work } = require('node:timers/promises');
const express = require('express');
const idempotency = require('express-idempotency');

const orders = [];
const account = (req) => req.get('Authorization');
const app = express();
app.use(express.json());
app.post('*', idempotency.idempotency());
app.post(['/orders', '/others'], async (req, res) => {
    if (idempotency.getSharedIdempotencyService().isHit(req)) return;
    await work(100);
    if (req.get('X-Fail')) return res.status(500).json({ error: 'on request' });
    if (req.body.quantity > 100) return res.status(409).json({ error: 'out of stock' });
    const order = { id: randomUUID(), state: 'new', ...req.body };
    orders.push({ ...order, account: account(req) });
    res.status(201).location(`/orders/${order.id}`).json(order);
});
app.post('/orders/:id/ship', (req, res) => {
    const order = orders.find((order) => order.id === req.params.id);
    order.state = 'shipped';
    res.json(order);
});
const own = (req) => orders.filter((order) => order.account === account(req));
app.get('/orders', (req, res) => res.json(own(req).filter((order) => order.customer === req.query.customer)));
app.get('/orders/:id', (req, res) => {
    const order = own(req).find((order) => order.id === req.params.id);
    return order ? res.json(order) : res.sendStatus(404);
});

const plain = require('node:http').createServer(app).listen(0, '127.0.0.1', () => {
    const folder = process.argv[2];
    if (!folder) return console.log(`ports ${plain.address().port}`);
    const tls = { key: readFileSync(`${folder}/key.pem`), cert: readFileSync(`${folder}/cert.pem`) };
    const secure = require('node:https').createServer(tls, app).listen(0, '127.0.0.1', () => {
        console.log(`ports ${plain.address().port} ${secure.address().port}`);
    });
});
