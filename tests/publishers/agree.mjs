// What ajv says of documents. The first argument is a file of schemas by name; then, on stdin, a line for each document:
// the name of its schema, a blank, its bytes in base64. Answers with a list: what ajv says without and with
// ajv-formats, and why.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import Ajv from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

const plain = new Ajv({ strict: true, strictTypes: false, strictRequired: false, validateFormats: false });
const strict = formats(new Ajv({ strict: true, strictTypes: false, strictRequired: false }));
const judges = {};
for (const [name, schema] of Object.entries(JSON.parse(readFileSync(process.argv[2])))) {
  judges[name] = [plain.compile(schema), strict.compile(schema)];
}
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const said = [];
for await (const line of createInterface({ input: process.stdin })) {
  const [name, body] = line.split(' ');
  let document;
  try {
    document = JSON.parse(utf8.decode(Buffer.from(body ?? '', 'base64')));
  } catch (error) {
    said.push([false, false, error.name]);
    continue;
  }
  const found = judges[name].map((judge) => judge(document));
  const why = (judges[name].find((judge) => judge.errors) ?? { errors: [] }).errors[0];
  said.push([...found, why ? `${why.instancePath} ${why.keyword}` : '']);
}
process.stdout.write(JSON.stringify(said));
