// The codecs of the JavaScript SDK, as its package ships them, for a test to ask. Each line of input is a
// question, `{"read": hex}`, `{"write": commands}` or `{"emulate": request}` with its `encoding`; each line of
// output its answer.
'use strict';

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const vm = require('vm');

// The codecs are inside of the bundle: it is run with a line behind it that hands them out.
const bundle = path.resolve(process.argv[2], 'centrifuge/build/protobuf/index.js');
const source = fs.readFileSync(bundle, 'utf8') +
    '\nexports.codecs = { json: new JsonCodec(), protobuf: new ProtobufCodec() };';
const sdk = {};
vm.runInThisContext(`(function (exports, require) {${source}\n})`)(sdk, createRequire(bundle));

// Fields that are maps, which the SDK's messages have even when they are empty.
const maps = ['subs', 'headers', 'tags'];

// A value as both encodings have it: payloads are JSON, and what is zero is not there.
function plain(value) {
    if (value instanceof Uint8Array) {
        return value.length === 0 ? undefined : plain(JSON.parse(Buffer.from(value).toString()));
    }
    if (typeof value?.toNumber === 'function') {
        return plain(value.toNumber());
    }
    if (Array.isArray(value)) {
        return value.length === 0 ? undefined : value.map(item => plain(item) ?? null);
    }
    if (value !== null && typeof value === 'object') {
        const fields = Object.entries(value).map(([name, field]) => [name, plain(field)]);
        const kept = fields.filter(([name, field]) => field !== undefined &&
            !(maps.includes(name) && Object.keys(field).length === 0));
        return Object.fromEntries(kept);
    }
    return value === 0 || value === '' || value === false || value === null ? undefined : value;
}

// Commands as the SDK's Protobuf codec takes them: payloads are bytes.
function withBytes(value, name) {
    if (name === 'data') {
        return Buffer.from(JSON.stringify(value));
    }
    if (Array.isArray(value)) {
        return value.map(item => withBytes(item));
    }
    if (value !== null && typeof value === 'object') {
        return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, withBytes(field, key)]));
    }
    return value;
}

// The body of a request to `/emulation`, as its transports make it.
function emulated(encoding, { node, session, data }) {
    if (encoding === 'json') {
        return JSON.stringify({ session, node, data: Buffer.from(data, 'hex').toString() });
    }
    return sdk.codecs.protobuf.encodeEmulationRequest({ session, node, data: Buffer.from(data, 'hex') });
}

function answer({ encoding, read, write, emulate }) {
    const codec = sdk.codecs[encoding];
    if (emulate !== undefined) {
        return Buffer.from(emulated(encoding, emulate)).toString('hex');
    }
    if (read !== undefined) {
        const frame = Buffer.from(read, 'hex');
        return codec.decodeReplies(encoding === 'json' ? frame.toString() : frame).map(plain);
    }
    const commands = encoding === 'json' ? write : write.map(command => withBytes(command));
    return Buffer.from(codec.encodeCommands(commands)).toString('hex');
}

for (const line of fs.readFileSync(0, 'utf8').split('\n').filter(line => line !== '')) {
    console.log(JSON.stringify(answer(JSON.parse(line))));
}
