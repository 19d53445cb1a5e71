// Publish one event to Yiqi with nats.js and print its answer. Copy it; it needs Node 20 and
//
//     npm install @nats-io/transport-node @nats-io/jetstream
//     NATS_URL=tls://bus.example:4222 NATS_CA=ca.pem NATS_SEED=440106.nk node publish.mjs event.json
//     … node publish.mjs package.json 附件5.xlsx 盖章扫描件.pdf      (files go first, the event names them)
//
// event.json is one CloudEvent; subject and sender follow from it. Run it again with the same file whenever you are not
// sure: same id, same event, one effect.
// Ends with 0: accepted (perhaps with warnings), 1: rejected, 2: never stored, 3: stored, no answer yet.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { jetstream } from "@nats-io/jetstream";
import { connect, headers, nkeyAuthenticator } from "@nats-io/transport-node";

const { NATS_URL = "nats://127.0.0.1:4222", NATS_SEED, NATS_CA, NATS_WAIT = "30" } = process.env;
const CHUNK = 512 * 1024;

const [path, ...files] = process.argv.slice(2);
let body = readFileSync(path); // sent as it is: a retry must not differ by a byte
const event = JSON.parse(body);
const me = event.source.split(":")[4]; // urn:cn:gov:gz:<me>:<system>
const name = event.type.replace("cn.gov.gz.sme.", "").replace(/\.v\d+$/, ""); // submission.filed

const nc = await connect({
  servers: NATS_URL.split(","),
  authenticator: NATS_SEED ? nkeyAuthenticator(readFileSync(NATS_SEED).subarray(0, 58)) : undefined, // without the line's end
  tls: NATS_CA ? { caFile: NATS_CA, handshakeFirst: true } : undefined, // TLS from the first byte
  maxReconnectAttempts: -1, // a program that stays outlives restarts of the bus
}).catch((error) => end(2, `no connection to ${NATS_URL}: ${error.message}`)); // a wrong seed: Authorization Violation

// Listen before you speak. Every system of your agency hears all answers to it.
const answers = nc.subscribe(`sme.out.v1.${me}.event.*`);

if (files.length) {
  event.data.files = [];
  for (const file of files) {
    const bytes = readFileSync(file);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    for (let i = 0; i * CHUNK < bytes.length; i++)
      await store(`sme.file.v1.${me}.${sha256}.${i}`, bytes.subarray(i * CHUNK, (i + 1) * CHUNK), `${me}:${sha256}:${i}`);
    const role = /\.(pdf|png|jpe?g)$/i.test(file) ? "scan" : "workbook";
    event.data.files.push({ role, sha256, size: bytes.length, name: basename(file) });
  }
  // An id that follows from what is said: the same files are the same event, others are another.
  event.id = createHash("sha256").update(JSON.stringify(event.data)).digest("hex");
  body = JSON.stringify(event);
}

// The bus knows a retry by this id. Other agencies choose ids too, so yours begin with your code.
const ack = await store(`sme.in.v1.${me}.${name}`, body, `${me}:${event.id}`);
console.error(ack.duplicate ? `stored before as ${ack.seq}` : `stored as ${ack.seq}`); // both are success

// Stored is not accepted: that is the answer. To a duplicate it may have been given long ago.
const answer = (ack.duplicate && (await asked())) || (await heard(Number(NATS_WAIT))) || (await asked());
if (!answer) end(3, "no answer yet; it is stored and will be judged, so run this again later");
console.log(JSON.stringify(answer, null, 2));
const [, state] = answer.type.match(/event\.(\w+)/); // or `kept`: a version that we do not know yet, judged after an upgrade
end({ accepted: 0, rejected: 1 }[state] ?? 3);

/** Publish until there is a PubAck, always with the same id. */
async function store(subject, bytes, msgID) {
  for (let tries = 1; ; tries++) {
    try {
      const head = headers();
      if (subject.startsWith("sme.in.")) head.set("Content-Type", "application/cloudevents+json");
      return await jetstream(nc).publish(subject, bytes, { msgID, headers: head, timeout: 5000 });
    } catch (error) {
      if (/per subject/.test(error.message)) return { duplicate: true }; // this chunk is there
      // `jetstream is not enabled` is how nats.js says that nobody takes this subject from you; or the bus is just starting.
      if (error.name === "JetStreamNotEnabled" && tries > 3) end(2, `nobody takes ${subject} from you: is the code yours, is the type spelled so?`);
      if (error.name === "InvalidArgumentError" || (error.status >= 400 && error.status < 500)) end(2, `the bus refuses: ${error.message}`); // too large
      console.error(`no PubAck (${error.message}); the same again`);
      await new Promise((resolve) => setTimeout(resolve, Math.min(250 * 2 ** tries, 30_000)));
    }
  }
}

async function heard(seconds) {
  const timer = setTimeout(() => answers.unsubscribe(), seconds * 1000);
  for await (const message of answers) {
    const said = message.json();
    const { accepted, kept, rejected } = said.data;
    // What could not be read has no id; then its place in the stream names it.
    if ((accepted ?? kept ?? rejected.id) !== event.id && rejected?.seq !== ack.seq) continue;
    clearTimeout(timer);
    return said;
  }
}

async function asked() {
  const question = JSON.stringify({ id: event.id });
  const reply = await nc.request(`sme.ask.v1.${me}.event.status`, question, { timeout: 5000 }).catch(() => undefined);
  return reply?.json().answer; // none while its state is `unanswered`
}

function end(status, sentence) {
  if (sentence) console.error(sentence);
  process.exit(status);
}
