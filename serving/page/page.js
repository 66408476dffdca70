// The page for people. Whatever comes from people or from the server is put in as text, never as markup.

const SHOWN_CLASSES = 8;
const KEPT_TRIES = 50;
const PATIENCE_SECONDS = 60;
// Weights below this are shown as faint as they are, however small the largest of the text may be.
const STRONG_WEIGHT = 0.7;
const NOTICEABLE_WEIGHT = 0.05;
const MOST_NAMED = 3;
// In the place of a status.
const UNREACHABLE = 0;
const UNREADABLE = 1;

const at = (id) => document.getElementById(id);
const narrow = "\u202f";
const minus = "\u2212";

const state = { models: [], limit: Infinity, token: "", tries: [], shown: null, asking: null };

class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

function make(tag, className, ...content) {
  const item = document.createElement(tag);
  if (className) item.className = className;
  item.append(...content);
  return item;
}

const percent = (share) => `${(100 * share).toFixed(1)}${narrow}%`;
// No model is wholly sure, also where its float32 rounds to 1 or 0.
const sureness = (share) => {
  if (share < 0.0005) return `<${narrow}0.1${narrow}%`;
  if (share > 0.9995) return `>${narrow}99.9${narrow}%`;
  return percent(share);
};
const signed = (weight) => {
  const size = Math.abs(weight).toFixed(2);
  return size === "0.00" ? size : (weight < 0 ? minus : "+") + size;
};
const count = (number) => number.toLocaleString("en");
const several = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;
const versionName = ({ version, labels }) => `version ${version}${labels.length ? `, ${labels.join(", ")}` : ""}`;

// Talking to the server.

async function request(question, signal) {
  const headers = {};
  if (question) headers["content-type"] = "application/json";
  if (state.token) headers.authorization = `Bearer ${state.token}`;
  const options = { headers, signal, cache: "no-store", credentials: "same-origin" };
  if (question) Object.assign(options, { method: "POST", body: JSON.stringify(question) });
  let reply, text;
  try {
    reply = await fetch("explain", options);
    text = await reply.text();
  } catch (error) {
    throw signal.aborted ? error : new Refusal(UNREACHABLE, "", null);
  }
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // A proxy in between answers with a page of its own.
    throw new Refusal(reply.ok ? UNREADABLE : reply.status, "", null);
  }
  const retryAfter = Number(reply.headers.get("retry-after")) || null;
  if (!reply.ok) throw new Refusal(reply.status, String(content?.error ?? ""), retryAfter);
  return content;
}

async function patiently(question, controller) {
  const timer = setTimeout(() => controller.abort("late"), 1000 * PATIENCE_SECONDS);
  try {
    return await request(question, controller.signal);
  } finally {
    clearTimeout(timer);
  }
}

async function refresh() {
  try {
    const choices = await patiently(null, new AbortController());
    state.models = choices.models;
    state.limit = choices.text_characters;
    showChoices();
    if (!state.shown) showFirstModel();
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

async function ask() {
  const text = at("headline").value;
  if (!text.trim()) {
    tell("There is no headline yet", "Type or paste one, or try one of the examples.");
    at("headline").focus();
    return;
  }
  state.asking?.abort("replaced");
  const controller = new AbortController();
  state.asking = controller;
  busy(true);
  try {
    if (!at("version").value && !(await refresh())) return;
    if (!at("version").value) {
      tell("No model serves yet", noModel());
      return;
    }
    const answer = await patiently({ ...JSON.parse(at("version").value), text }, controller);
    const attempt = { text, answer };
    state.tries = [attempt, ...state.tries.filter((other) => !isSame(attempt, other))].slice(0, KEPT_TRIES);
    show(attempt);
    announce(attempt);
  } catch (error) {
    if (controller.signal.reason === "replaced") return;
    complain(error);
    // Versions and labels may have moved since they were listed.
    if (error.status === 400 || error.status === 404) await refresh();
  } finally {
    if (state.asking === controller) {
      state.asking = null;
      busy(false);
    }
  }
}

function isSame(one, other) {
  const { model, version } = one.answer;
  return one.text === other.text && model === other.answer.model && version === other.answer.version;
}

function noModel() {
  const problem = state.models.find((model) => model.problem)?.problem;
  return problem ? `The server says: ${problem}.` : "Push one with newsdesk run; the server loads it by itself.";
}

// What went wrong.

function complain(error) {
  if (error === "late") {
    tell("No answer", `The server did not answer within ${PATIENCE_SECONDS} seconds. Try again, or a shorter text.`);
    return;
  }
  if (!(error instanceof Refusal)) throw error;
  const said = error.message
    ? `The server says: ${error.message.replace(/\.$/, "")}.`
    : `It answered with status ${error.status}.`;
  const after = error.retryAfter ? `in ${several(error.retryAfter, "second")}` : "in a moment";
  switch (error.status) {
    case UNREACHABLE:
      return tell("The server cannot be reached", "It was stopped, or the connection is down. Your text is still here: try again.");
    case UNREADABLE:
      return tell("The answer cannot be read", "Something between this page and the server answered in its place.");
    case 401:
      tell(
        state.token ? "The token was not accepted" : "This server asks for a token",
        "Enter the token that whoever runs this server gave you.",
      );
      at("token-form").hidden = false;
      return at("token").focus();
    case 404:
      return tell("That model is not loaded any more", `${said} Choose again.`);
    case 413:
      return tell("The text is too long", `This server reads at most ${count(state.limit)} characters.`);
    case 429:
      return tell("The server is busy", `More is asked than it can answer right now. Try again ${after}.`);
    case 503:
      return tell("The server is not ready", `${said} Try again ${after}.`);
    case 504:
      return tell("It took too long", `${said} Try again ${after}, or a shorter text.`);
  }
  if (error.status < 500) return tell("The server refuses this", said);
  return tell("The server failed", `${said} Your text is not at fault; whoever runs the server finds the reason in its log.`);
}

function tell(title, text) {
  at("problem").replaceChildren(make("h2", "", title), make("p", "", text));
  at("token-form").hidden = true;
}

function quiet() {
  at("problem").replaceChildren();
  at("token-form").hidden = true;
}

function busy(asking) {
  at("classify").textContent = asking ? "Reading\u2026" : "Classify";
  at("answer").setAttribute("aria-busy", String(asking));
  if (asking) quiet();
}

// Which version answers.

function showChoices() {
  const select = at("version");
  const before = select.value;
  const offered = state.models.flatMap((model) => model.versions.map((version, index) => ({ version, index })));
  select.replaceChildren(
    ...offered.map(({ version, index }) => {
      const option = make("option", "", `${version.model}, ${versionName(version)}`);
      // The first is what serves, whichever version that will be; another is followed by its label if it has one.
      const which = index === 0 ? {} : version.labels.length ? { label: version.labels[0] } : { version: version.version };
      option.value = JSON.stringify({ model: version.model, ...which });
      return option;
    }),
  );
  if ([...select.options].some((option) => option.value === before)) select.value = before;
  at("choice").hidden = offered.length < 2;
}

function chosenVersion() {
  const offered = state.models.flatMap((model) => model.versions);
  return offered[at("version").selectedIndex];
}

function showFirstModel() {
  const version = chosenVersion();
  if (version) showModel(version);
}

function showModel(version) {
  const { figures } = version;
  at("who").textContent = `${version.model}, ${versionName(version)}`;
  at("figures").replaceChildren(
    ...(figures?.metrics ?? []).flatMap((metric) => {
      const value = ["accuracy", "expected_calibration_error"].includes(metric.type)
        ? percent(metric.value)
        : metric.value.toFixed(3);
      return [make("div", "", make("dt", "", metric.name), make("dd", "", value))];
    }),
  );
  at("figures-note").textContent = figures
    ? `Measured on the ${figures.dataset.split} split of ${figures.dataset.name}, which training did not see.`
    : `No test figures: ${version.figures_problem}.`;
  at("model").hidden = false;
}

// The answer.

function show(attempt) {
  const { text, answer } = attempt;
  state.shown = attempt;
  at("start").hidden = true;
  quiet();
  at("answer").hidden = false;
  at("asked-of").textContent = `Answer of ${answer.model}, ${versionName(answer)}`;
  at("label").textContent = answer.label;
  at("sure").textContent = sureness(answer.probabilities[answer.label]);
  showClasses(answer);
  showWords(text, answer);
  showModel(answer);
  showTries();
}

function showClasses({ label, probabilities }) {
  const sorted = Object.entries(probabilities).sort(([, one], [, other]) => other - one);
  const items = sorted.map(([name, share]) => {
    const bar = make("span", "bar");
    bar.setAttribute("aria-hidden", "true");
    bar.style.setProperty("--share", share);
    return make("li", name === label ? "answered" : "", make("span", "name", name), bar, make("span", "n", sureness(share)));
  });
  at("classes").replaceChildren(...items.slice(0, SHOWN_CLASSES));
  const rest = items.slice(SHOWN_CLASSES);
  at("more").hidden = !rest.length;
  at("more-title").textContent = rest.length === 1 ? "One more class" : `${count(rest.length)} more classes`;
  at("more-classes").replaceChildren(...rest);
}

function showWords(text, { label, words, words_total: total }) {
  at("words-part").hidden = !words;
  at("words-off").hidden = Boolean(words);
  if (!words) return;
  for (const name of document.querySelectorAll(".class-name")) name.textContent = label;
  const largest = Math.max(STRONG_WEIGHT, ...words.map((word) => Math.abs(word.weight)));
  // Positions count code points, as the server does; a string here counts halves of some.
  const points = Array.from(text);
  const piece = (start, end) => points.slice(start, end).join("");
  const content = [];
  let end = 0;
  for (const word of words) {
    content.push(piece(end, word.start), marked(piece(word.start, word.end), word.weight, largest));
    end = word.end;
  }
  at("text").replaceChildren(...content, piece(end));
  at("key-for").hidden = !at("text").querySelector(".for");
  at("key-against").hidden = !at("text").querySelector(".against");
  at("weights").hidden = !words.length;
  at("words-note").textContent = wordsNote(label, words, total);
  const ranked = [...words].sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight));
  at("weight-rows").replaceChildren(
    ...ranked.map((word) => {
      const heading = make("th", "", word.text);
      heading.scope = "row";
      heading.dir = "auto";
      const bar = make("span", word.weight < 0 ? "weight against" : "weight for");
      bar.setAttribute("aria-hidden", "true");
      const noticed = Math.abs(word.weight) >= NOTICEABLE_WEIGHT;
      bar.style.setProperty("--share", noticed ? Math.abs(word.weight) / largest : 0);
      return make("tr", "", heading, make("td", "n", bar, signed(word.weight)));
    }),
  );
}

function marked(text, weight, largest) {
  if (Math.abs(weight) < NOTICEABLE_WEIGHT) return text;
  const item = make("mark", weight < 0 ? "against" : "for", text);
  item.style.setProperty("--share", Math.abs(weight) / largest);
  return item;
}

function wordsNote(label, words, total) {
  const notes = [];
  if (!words.length) notes.push("There is no word to leave out.");
  else if (words.every((word) => Math.abs(word.weight) < NOTICEABLE_WEIGHT)) {
    notes.push("No single word matters: the answer stays the same whichever is left out.");
  } else notes.push("Each word was left out in turn, and the model asked again.");
  if (total > words.length) notes.push(`The first ${count(words.length)} of ${count(total)} words were weighed.`);
  return notes.join(" ");
}

function announce({ answer }) {
  const strongest = (answer.words ?? [])
    .filter((word) => word.weight >= NOTICEABLE_WEIGHT)
    .sort((one, other) => other.weight - one.weight)
    .slice(0, MOST_NAMED)
    .map((word) => word.text);
  const because = strongest.length ? ` Strongest for it: ${strongest.join(", ")}.` : "";
  at("announcement").textContent = `${answer.label}, ${sureness(answer.probabilities[answer.label])}.${because}`;
}

// What was tried.

function showTries() {
  at("history").hidden = !state.tries.length;
  at("tried").replaceChildren(
    ...state.tries.map((attempt) => {
      const { text, answer } = attempt;
      const title = make("span", "title", text);
      title.dir = "auto";
      const result = `${answer.label} ${sureness(answer.probabilities[answer.label])}`;
      const button = make("button", "", title, " ", make("span", "result", `${result}, ${answer.model}, version ${answer.version}`));
      button.type = "button";
      if (attempt === state.shown) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => {
        at("headline").value = text;
        showLength();
        const position = state.tries.indexOf(attempt);
        show(attempt);
        announce(attempt);
        // The list was drawn anew, and the focus stays where it was.
        at("tried").children[position].firstChild.focus();
      });
      return make("li", "", button);
    }),
  );
}

function clear() {
  state.tries = [];
  state.shown = null;
  at("headline").value = "";
  state.asking?.abort("replaced");
  quiet();
  for (const id of ["answer", "history"]) at(id).hidden = true;
  for (const id of ["text", "classes", "weight-rows", "tried"]) at(id).replaceChildren();
  at("start").hidden = false;
  showLength();
  showFirstModel();
  at("announcement").textContent = "What was tried is cleared.";
  at("headline").focus();
}

function showLength() {
  const length = Array.from(at("headline").value).length;
  at("length").hidden = length <= state.limit;
  at("length").textContent = length > state.limit
    ? `${count(length)} characters: this server reads at most ${count(state.limit)}.`
    : "";
}

// What people do.

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
at("headline").addEventListener("input", showLength);
at("headline").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  void ask();
});
at("examples").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  at("headline").value = button.textContent;
  showLength();
  at("headline").focus();
  void ask();
});
at("version").addEventListener("change", () => {
  showModel(chosenVersion());
  if (state.shown && at("headline").value.trim()) void ask();
});
at("clear").addEventListener("click", clear);
at("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  state.token = at("token").value.trim();
  at("token").value = "";
  quiet();
  if (!(await refresh())) return;
  at("headline").focus();
  if (at("headline").value.trim()) void ask();
});
document.addEventListener("visibilitychange", () => {
  // A version may have been swapped since.
  if (document.visibilityState === "visible" && state.models.length) void refresh();
});

showLength();
await refresh();
