// Limits that are inside a body, for nginx's njs. TensorFlow Serving has none, and its recursion over nested arrays is
// how a megabyte of brackets stops it (CVE-2025-0649 and the like).
//
// Texts under a key that stands twice in an object are read once here, the last of them; how much they can bring is
// bounded by the body's size.

const TEXTS = 256;
const CHARACTERS = 10000;
const DEPTH = 32;
// Arrays and objects in all: two for a text that names its input and is base64, and plenty for what is beside.
const CONTAINERS = 1512;
// Base64 of as many characters of four bytes each, and of the tf.Example around them.
const BASE64 = Math.ceil((CHARACTERS * 4 + 1024) / 3) * 4;

function refuse(r, message) {
  r.headersOut['Content-Type'] = 'application/json';
  r.return(400, JSON.stringify({ error: message }));
}

// Returns what is too much in a body's brackets and braces, which is looked at before any of them becomes a value.
function findNesting(text) {
  if (text.split('[').length + text.split('{').length - 2 <= Math.min(DEPTH, CONTAINERS)) {
    return undefined;
  }
  // In this order: a backslash that is escaped escapes no quote.
  const parts = text.split('\\\\').join('').split('\\"').join('').split('"');
  // Every other part is a string.
  const kept = [];
  for (let part = 0; part < parts.length; part += 2) {
    kept.push(parts[part]);
  }
  const outside = kept.join('');
  const brackets = /[[\]{}]/g;
  let containers = 0;
  let depth = 0;
  let found;
  // With more closed than opened it is no JSON, which the parser says better.
  while (depth >= 0 && (found = brackets.exec(outside))) {
    if (found[0] === '[' || found[0] === '{') {
      containers++;
      depth++;
    } else {
      depth--;
    }
    if (depth > DEPTH) {
      return tooDeep();
    }
    if (containers > CONTAINERS) {
      return `JSON Parse error: More than ${CONTAINERS} arrays and objects`;
    }
  }
  return undefined;
}

// Returns what is wrong with a JSON value, or undefined.
function findFault(value, key) {
  if (typeof value === 'string') {
    const most = key === 'b64' ? BASE64 : CHARACTERS;
    return value.length > most ? `A text has ${value.length} characters, ${most} are allowed: shorten it` : undefined;
  }
  if (value === null || typeof value !== 'object') {
    return undefined;
  }
  if (Array.isArray(value) && value.length > TEXTS) {
    return `The request has ${value.length} texts, ${TEXTS} are allowed: send them in several requests`;
  }
  const keys = Object.keys(value);
  for (let at = 0; at < keys.length; at++) {
    const fault = findFault(value[keys[at]], keys[at]);
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
    const text = r.requestText || '';
    const nesting = findNesting(text);
    if (nesting) {
      refuse(r, nesting);
      return;
    }
    let body;
    try {
      body = JSON.parse(text);
    } catch (error) {
      // The parser has a limit of its own, one below ours.
      const deep = /deep/.test(error.message);
      refuse(r, deep ? tooDeep() : `JSON Parse error: ${error.message}`);
      return;
    }
    const fault = findFault(body, '');
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
