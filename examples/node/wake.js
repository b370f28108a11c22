// The Celery message by which a worker is asked to wake a session, signed if the deployment signs its tasks.
import { constants, randomUUID, sign, X509Certificate } from "node:crypto";

const base64 = (value) => Buffer.from(value).toString("base64");

/** `signing` is {key, certificate}, both in PEM, of this process; a worker that signs must trust the certificate. */
export function wakeRequest(session, queue, expires, signing) {
  const id = randomUUID(), task = "torpor.restore_session";
  const properties = {
    correlation_id: id,
    delivery_mode: 2,
    delivery_info: { exchange: "", routing_key: queue },
    priority: 0,
    body_encoding: "base64",
    delivery_tag: randomUUID(),
  };
  const message = { "content-encoding": "utf-8", properties };
  if (signing) {
    const body = { task, id, args: [session], kwargs: {}, retries: 0, eta: null, expires: expires.toISOString(), utc: true };
    return { ...message, "content-type": "application/data", headers: {}, body: base64(signed(JSON.stringify(body), signing)) };
  }
  const headers = { lang: "py", task, id, root_id: id, parent_id: null, group: null, retries: 0, eta: null };
  const body = [[session], {}, { callbacks: null, errbacks: null, chain: null, chord: null }];
  headers.expires = expires.toISOString();
  return { ...message, "content-type": "application/json", headers, body: base64(JSON.stringify(body)) };
}

// As celery.security.serialization packs it: signer, signature, content type, encoding and body.
function signed(body, { key, certificate }) {
  const { issuer, serialNumber } = new X509Certificate(certificate);
  const names = issuer.split("\n").map((line) => line.slice(line.indexOf("=") + 1).replace(/\\(.)/g, "$1")); // Node escapes
  const signer = `${names.join(" ")} ${BigInt(`0x${serialNumber}`)}`;
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_MAX_SIGN: saltLength } = constants;
  const signature = sign("sha256", Buffer.from(body), { key, padding, saltLength });
  return base64([base64(signer), base64(signature), "application/json", "utf-8", body].join("\0\u0001"));
}
