// What the parser of AsyncAPI says of a document: a list of severity (0 is an error), place and message.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
const told = diagnostics.map(({ severity, path, message }) => [severity, path.join('/'), message]);
const channels = document ? document.allChannels().all().length : 0;
console.log(JSON.stringify({ channels, told }));
