// A NestJS service that uses @node-idempotency/nestjs as its README shows, with the storage in memory. The decorators are called
// as functions, so that the service needs no compiler.
require('reflect-metadata');
const { randomUUID } = require('node:crypto');
const { setTimeout: work } = require('node:timers/promises');
const { Body, Controller, Get, Headers, HttpException, Module, Param, Post, Query, Res } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { Idempotent, NodeIdempotencyModule } = require('@node-idempotency/nestjs');

const orders = [];
class Orders {
    async make(body, account, fail, res) {
        await work(100);
        if (fail) throw new HttpException('on request', 500);
        if (body.quantity > 100) throw new HttpException('out of stock', 409);
        const order = { id: randomUUID(), state: 'new', ...body };
        orders.push({ ...order, account });
        res.status(201).location(`/orders/${order.id}`);
        return order;
    }
    ship(id) {
        const order = orders.find((order) => order.id === id);
        order.state = 'shipped';
        return order;
    }
    list(customer, account) {
        return orders.filter((order) => order.account === account && order.customer === customer);
    }
    read(id, account) {
        const order = orders.find((order) => order.id === id && order.account === account);
        if (!order) throw new HttpException('unknown', 404);
        return order;
    }
}

// route('make', [Post('orders')], [Body(), ..]): decorates a method and its parameters.
function route(name, decorators, parameters) {
    const method = Object.getOwnPropertyDescriptor(Orders.prototype, name);
    parameters.forEach((parameter, place) => parameter(Orders.prototype, name, place));
    Reflect.defineMetadata('design:paramtypes', parameters.map(() => Object), Orders.prototype, name);
    for (const decorator of decorators) decorator(Orders.prototype, name, method);
}
const account = () => Headers('authorization');
route('make', [Idempotent(), Post(['orders', 'others'])], [Body(), account(), Headers('x-fail'), Res({ passthrough: true })]);
route('ship', [Post('orders/:id/ship')], [Param('id')]);
route('list', [Get('orders')], [Query('customer'), account()]);
route('read', [Get('orders/:id')], [Param('id'), account()]);
Controller()(Orders);
class Service {}
Module({
    imports: [NodeIdempotencyModule.forRootAsync({ storage: { adapter: 'memory', options: {} }, enforceIdempotency: true })],
    controllers: [Orders],
})(Service);

NestFactory.create(Service, { logger: false }).then(async (app) => {
    await app.listen(0, '127.0.0.1');
    console.log(`ports ${app.getHttpServer().address().port}`);
});
