// Limits that are inside a body, for nginx's njs. TensorFlow Serving has none, and its recursion over nested arrays is
// how a megabyte of brackets stops it (CVE-2025-0649 and the like).
//
// A key that stands twice in an object counts once here; how much it can bring is bounded by the body's size.

const TEXTS = 256;
const CHARACTERS = 10000;
const DEPTH = 32;
// Base64 of as many characters of four bytes each, and of the tf.Example around them.
const BASE64 = Math.ceil((CHARACTERS * 4 + 1024) / 3) * 4;

function refuse(r, message) {
  r.headersOut['Content-Type'] = 'application/json';
  r.return(400, JSON.stringify({ error: message }));
}

// Returns what is wrong with a JSON value, or undefined.
function findFault(value, key, left) {
  if (typeof value === 'string') {
    const most = key === 'b64' ? BASE64 : CHARACTERS;
    return value.length > most ? `A text has ${value.length} characters, ${most} are allowed: shorten it` : undefined;
  }
  if (value === null || typeof value !== 'object') {
    return undefined;
  }
  if (left === 0) {
    return tooDeep();
  }
  if (Array.isArray(value) && value.length > TEXTS) {
    return `The request has ${value.length} texts, ${TEXTS} are allowed: send them in several requests`;
  }
  const keys = Object.keys(value);
  for (let at = 0; at < keys.length; at++) {
    const fault = findFault(value[keys[at]], keys[at], left - 1);
    if (fault) {
      return fault;
    }
  }
  return undefined;
}

function tooDeep() {
  return `JSON Parse error: More than ${DEPTH} arrays and objects within each other`;
}

function check(r) {
  // TensorFlow Serving reads no body of these two.
  if (r.method !== 'GET' && r.method !== 'HEAD') {
    let body;
    try {
      body = JSON.parse(r.requestText || '');
    } catch (error) {
      // The parser has a limit of its own, one below ours.
      const deep = /deep/.test(error.message);
      refuse(r, deep ? tooDeep() : `JSON Parse error: ${error.message}`);
      return;
    }
    const fault = findFault(body, '', DEPTH);
    if (fault) {
      refuse(r, fault);
      return;
    }
  }
  r.internalRedirect('@serving');
}

async function ready(r) {
  const reply = await r.subrequest('/ready/ag_news');
  r.headersOut['Content-Type'] = 'application/json';
  if (reply.status === 200) {
    r.return(200, JSON.stringify({ status: 'ready' }));
  } else {
    r.return(503, JSON.stringify({ error: `The champion of ag_news does not answer: ${reply.status}` }));
  }
}

export default { check, ready };
