// The page: photos go to /v1/predict, answers come back as cards. No library, no request to anybody else.

const MOST_AT_ONCE = 8;
const MOST_BARS = 5;
const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const cards = [];
let model = null;
let token = new URLSearchParams(location.hash.slice(1)).get("token"); // what follows # is not sent to any server
if (token) history.replaceState(null, "", location.pathname);

/** An element with a class and a text; texts are never markup. */
function make(tag, { kind = "", text = "", ...more } = {}) {
  const element = Object.assign(document.createElement(tag), more);
  if (kind) element.className = kind;
  if (text) element.textContent = text;
  return element;
}

/** Ask the server; an error becomes its sentence. Asks again where the server is busy. */
async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const content = await response.json();
  if (response.status === 401) byId("token-form").hidden = false;
  if (response.status === 503) {
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("Retry-After") ?? 1)));
    return ask(path, options);
  }
  if (content.error) throw new Error(content.error);
  return content;
}

async function introduce() {
  try {
    model = await ask("/v1/model");
  } catch (problem) {
    say(problem.message);
    return;
  }
  byId("token-form").hidden = true;
  byId("name").textContent = model.name;
  document.title = model.name;
  const classes = `Tells apart ${model.classes.length} classes: ${model.classes.join(", ")}.`;
  byId("about").replaceChildren(...[classes, ...model.words].map((text) => make("p", { text })));
  if (model.licence) {
    const text = `Pretrained weights: ${model.attribution || "of unnamed authors"}; licence ${model.licence}.`;
    byId("about").append(make("p", { kind: "quiet", text }));
  }
  say("");
}

const say = (text) => (byId("status").textContent = text);
const least = () => Number(byId("unsure").value) / 100;

/** Predict files, a few at a time, and show a card for each. */
async function predict(files) {
  const photos = [...files];
  let done = 0;
  for (let start = 0; start < photos.length; start += MOST_AT_ONCE) {
    const part = photos.slice(start, start + MOST_AT_ONCE);
    say(`${done} of ${photos.length} photos answered …`);
    const form = new FormData();
    for (const photo of part) form.append("photos", photo, photo.name || "photo");
    try {
      const { predictions } = await ask("/v1/predict", { method: "POST", body: form });
      predictions.forEach((found, i) => add(part[i], found));
    } catch (problem) {
      for (const photo of part) add(photo, { name: photo.name, error: problem.message });
    }
    done += part.length;
  }
  say(`${done} ${done === 1 ? "photo" : "photos"} answered.`);
}

function add(photo, found) {
  const card = { photo, found, element: make("li", { kind: "answer" }), where: null };
  cards.push(card);
  byId("answers").prepend(card.element);
  byId("clear").hidden = false;
  draw(card);
}

function draw(card) {
  const { found, photo, element } = card;
  const frame = make("div", { kind: "photo" });
  card.url ??= URL.createObjectURL(photo);
  const picture = make("img", { src: card.url, alt: `Photo ${found.name}` });
  picture.addEventListener("error", () => frame.remove()); // a browser shows fewer formats than the server reads
  frame.append(picture);
  if (card.where) frame.append(over(card.where));
  const parts = [frame, make("p", { kind: "name", text: found.name })];
  if (found.error) parts.push(make("p", { kind: "error", text: found.error }));
  else parts.push(...answered(card));
  element.replaceChildren(...parts);
}

/** The map, over the part of the photo that the network was shown. */
function over({ picture, text, window: { top, left, height, width } }) {
  const element = make("img", { kind: "where", src: picture, alt: text });
  for (const [side, share] of Object.entries({ top, left, height, width })) element.style[side] = `${100 * share}%`;
  return element;
}

function answered(card) {
  const { found } = card;
  const ranked = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
  const [best, share] = ranked[0];
  const isUnsure = share < least();
  const parts = [make("p", { kind: "label", text: isUnsure ? "unsure" : `${best}, ${percent(share)}` })];
  if (found.is_unlike) {
    const text = `Unlike any training photo (p = ${found.unlike_p.toPrecision(2)}): it may show none of these classes.`;
    parts.push(make("p", { kind: "error", text }));
  }
  if (isUnsure) {
    const text = `The most probable class, ${best}, has ${percent(share)}, less than the ${percent(least())} that you ask for.`;
    parts.push(make("p", { kind: "quiet", text }));
  }
  const bars = make("ul", { kind: "bars" });
  for (const [name, value] of ranked.slice(0, MOST_BARS)) {
    const row = make("li");
    row.append(make("span", { text: name }), make("span", { text: percent(value) }));
    const bar = make("meter", { min: 0, max: 1, value });
    bar.setAttribute("aria-label", `${name} ${percent(value)}`);
    row.append(bar);
    bars.append(row);
  }
  parts.push(bars);
  if (ranked.length > MOST_BARS) parts.push(make("p", { kind: "quiet", text: `and ${ranked.length - MOST_BARS} less probable classes` }));
  if (card.where) parts.push(make("p", { kind: "quiet", text: card.where.text }));
  else if (model?.can_explain) {
    const button = make("button", { text: "Where did it look?", type: "button" });
    button.addEventListener("click", () => explain(card, button));
    parts.push(button);
  }
  return parts;
}

async function explain(card, button) {
  button.disabled = true;
  try {
    const form = new FormData();
    form.append("photos", card.photo, card.found.name);
    const { label, picture, window } = await ask("/v1/explain", { method: "POST", body: form });
    card.where = { picture, window, text: `Orange: what spoke for ${label} (Grad-CAM; no finer detail is to be seen in it).` };
    draw(card);
  } catch (problem) {
    button.replaceWith(make("p", { kind: "error", text: problem.message }));
  }
}

// ---- ways in: chosen, dropped, pasted, taken ----------------------------------------------------------------------------------

const images = (list) => [...list].filter((file) => file instanceof File);
byId("files").addEventListener("change", async (event) => {
  const files = images(event.target.files);
  await predict(files);
  event.target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") predict(images(event.dataTransfer.files));
  });
}
document.addEventListener("paste", (event) => {
  const files = images(event.clipboardData.files);
  if (files.length) predict(files);
});

let stream = null;
byId("camera").addEventListener("click", async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    say("The camera cannot be used: the browser refused it, or there is none. Browsers offer it at localhost and over HTTPS only.");
    return;
  }
  byId("video").srcObject = stream;
  byId("viewfinder").hidden = false;
  await byId("video").play();
  byId("shoot").focus();
});
byId("shoot").addEventListener("click", () => {
  const video = byId("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => predict([new File([blob], `camera ${new Date().toLocaleTimeString()}`, { type: "image/png" })]));
});
byId("stop").addEventListener("click", () => {
  for (const track of stream?.getTracks() ?? []) track.stop();
  byId("viewfinder").hidden = true;
  byId("camera").focus();
});

byId("unsure").addEventListener("input", () => {
  byId("unsure-value").textContent = `${byId("unsure").value} %`;
  cards.forEach(draw);
});
byId("clear").addEventListener("click", () => {
  for (const card of cards.splice(0)) URL.revokeObjectURL(card.url);
  byId("answers").replaceChildren();
  byId("clear").hidden = true;
  say("");
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  introduce();
});

introduce();
