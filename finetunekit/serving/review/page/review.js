// The review: one card after the other, all photos in a grid, or on a map. No library, no request to anybody but this server.

const byId = (id) => document.getElementById(id);
const PAGE = 40; // cards or photos asked for at once
const AHEAD = 3; // cards whose pictures are loaded before they are shown
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8f7a00", "#7b4fb5", "#7a7a7a", "#b0413e"];
const DECISIONS = [
  ["keep", "k", "Keep"], ["leave out", "x", "Leave out"], ["label", "l", "Other label …"],
  ["group", "g", "Same animal or burst"], ["unsure", "u", "Unsure"],
];
const SAID = { keep: "kept", "leave out": "left out", label: "labelled", group: "grouped", unsure: "unsure" };
let about = null;
let view = { kind: "" };
let busy = null; // the decision that is being written
let token = new URLSearchParams(location.hash.slice(1)).get("token"); // what follows # is not sent to any server
if (token) history.replaceState(null, "", location.pathname);

function make(tag, { kind = "", text = "", ...more } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), more);
  if (kind) element.className = kind;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

const say = (text) => (byId("status").textContent = text);
const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** Ask the server; an error becomes its sentence. */
async function ask(path, sent) {
  const options = sent ? { method: "POST", body: JSON.stringify(sent) } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...(sent ? { "Content-Type": "application/json" } : {}) } });
  } catch {
    throw new Error("The server does not answer. Is it still running? What was decided so far is kept.");
  }
  const content = await response.json();
  if (response.status === 401) byId("token-form").hidden = false;
  if (content.error) throw new Error(content.error);
  return content;
}

// ---- pictures ------------------------------------------------------------------------------------------------------------------

const loaded = new Map(); // address → promise of one that an <img> can show
function address(number, size) {
  const path = `/v1/photos/${number}/${size}`;
  if (!token) return Promise.resolve(path);
  if (!loaded.has(path)) {
    loaded.set(path, fetch(path, { headers: headers() }).then(async (r) => (r.ok ? URL.createObjectURL(await r.blob()) : "")));
  }
  return loaded.get(path);
}

function picture(photo, size) {
  const image = make("img", { alt: `Photo ${photo.name}`, decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(make("span", { kind: "quiet", text: "This photo cannot be shown." })));
  address(photo.number, size).then((found) => (image.src = found));
  return image;
}

const ahead = new Map(); // number → image that is loaded before its card is shown
async function load(photo) {
  if (ahead.has(photo.number)) return;
  const image = new Image();
  ahead.set(photo.number, image);
  if (ahead.size > 60) ahead.delete(ahead.keys().next().value);
  image.src = await address(photo.number, "large");
}

// ---- what there is to look at --------------------------------------------------------------------------------------------------

function introduce(found) {
  about = found;
  document.title = `Review ${about.name}`;
  byId("name").textContent = `Review ${about.name}`;
  byId("notes").textContent = about.notes.join(" ");
  const counts = Object.entries(about.decided).map(([kind, count]) => `${count.toLocaleString()} ${SAID[kind]}`);
  byId("decided").textContent = `${about.photos.toLocaleString()} photos; decided: ${counts.join(", ") || "none yet"}`;
  byId("classes").replaceChildren(...about.classes.map((name) => make("option", { value: name })));
  const views = about.queues.map(({ name, title, cards, done }) => ["cards", name, `${title}: ${done} of ${cards.toLocaleString()}`]);
  views.push(["all", "", "All photos"], ["map", "", "Map"]);
  byId("views").replaceChildren(...views.map(([kind, queue, text]) => {
    const button = make("button", { text, type: "button" });
    button.setAttribute("aria-current", view.kind === kind && (view.queue ?? "") === queue);
    button.addEventListener("click", () => show(kind, queue));
    return button;
  }));
  drawLabels();
}

async function show(kind, queue = "") {
  view = { kind, queue: kind === "cards" ? queue : "" };
  for (const [id, kinds] of [["card-view", ["cards"]], ["map-view", ["map"]], ["grid-view", ["all", "map", "like"]]]) {
    byId(id).hidden = !kinds.includes(kind);
  }
  introduce(about);
  drawActions();
  try {
    if (kind === "cards") await showCard((await ask(`/v1/cards/${queue}?open_from=0`)).position);
    else if (kind === "all") fillGrid(`All ${about.photos.toLocaleString()} photos`, Array.from({ length: about.photos }, (_, i) => i));
    else await showMap();
  } catch (problem) {
    say(problem.message);
  }
}

// ---- cards ---------------------------------------------------------------------------------------------------------------------

const pages = new Map(); // "queue start" → promise of cards
function page(queue, start) {
  const key = `${queue} ${start}`;
  if (!pages.has(key)) pages.set(key, ask(`/v1/cards/${queue}?start=${start}&count=${PAGE}`).then((found) => found.cards));
  return pages.get(key);
}
const cardAt = async (queue, at) => (await page(queue, at - (at % PAGE)))[at % PAGE];
const queueOf = (name) => about.queues.find((queue) => queue.name === name);

async function showCard(at) {
  const { queue: name } = view;
  if (!name) return; // another view was chosen meanwhile
  const card = await cardAt(name, at);
  if (view.queue !== name || !card) return;
  const queue = queueOf(name);
  Object.assign(view, { at, card, meant: card.meant });
  byId("done").max = queue.cards;
  byId("done").value = queue.done;
  byId("position").textContent = `${at + 1} of ${queue.cards.toLocaleString()}${card.done ? ", decided" : ""}`;
  const severity = card.severity ? make("span", { kind: `${card.severity}-severity`, text: `${card.severity}, ` }) : "";
  byId("card-title").replaceChildren(severity, `${card.kind}: ${card.title}`);
  const which = card.photos.length > 1 ? " The framed photo is the one that is left out or gets another label." : "";
  byId("advice").textContent = `${card.advice}${which}`;
  drawCard();
  for (let next = at + 1; next <= Math.min(at + AHEAD, queue.cards - 1); next++) {
    cardAt(name, next).then((found) => found?.photos.slice(0, 4).forEach(load));
  }
}

function drawCard() {
  const { card } = view;
  byId("card").className = card.photos.length > 3 ? "many" : card.photos.length > 1 ? "pair" : "one";
  byId("card").replaceChildren(...card.photos.map((photo, place) => {
    const frame = make("button", { kind: "frame", type: "button" }, picture(photo, "large"));
    frame.setAttribute("aria-pressed", place === view.meant);
    frame.setAttribute("aria-label", `Frame photo ${photo.name}`);
    frame.addEventListener("click", () => mean(place));
    const like = make("button", { text: "Photos like this", type: "button" });
    like.addEventListener("click", () => showLike(photo));
    const label = photo.label === photo.listed ? photo.label || "no label" : `${photo.label} (listed: ${photo.listed || "none"})`;
    const words = make("figcaption", {}, make("p", { text: photo.name }), make("p", {}, make("strong", { text: label }), ` · ${photo.split}`));
    if (photo.note) words.append(make("p", { text: photo.note }));
    if (badge(photo)) words.append(make("p", { kind: "badge decided", text: badge(photo) }));
    words.append(make("p", {}, like));
    return make("figure", { kind: place === view.meant ? "meant" : "" }, frame, words);
  }));
  drawLabels();
  drawActions();
}

const badge = (photo) => [SAID[photo.decision], photo.group && `in ${photo.group}`, photo.who && `by ${photo.who}`].filter(Boolean).join(", ");

function mean(place) {
  view.meant = place;
  drawCard();
}

async function go(step) {
  const at = view.at + step;
  if (view.kind === "cards" && at >= 0 && at < queueOf(view.queue).cards) await showCard(at);
}

// ---- a grid that holds only the tiles that are seen ------------------------------------------------------------------------------

const TILE = { width: 132, height: 156 };
const chosen = new Set();
let grid = { numbers: [], photos: new Map(), tiles: new Map(), last: -1 };

function fillGrid(title, numbers) {
  byId("grid-title").textContent = title;
  chosen.clear();
  grid = { numbers, photos: new Map(), tiles: new Map(), last: 0, asked: new Set() };
  byId("tiles").replaceChildren();
  byId("grid").scrollTop = 0;
  drawGrid();
  drawActions();
}

function drawGrid() {
  const box = byId("grid");
  const columns = Math.max(1, Math.floor(box.clientWidth / TILE.width));
  byId("tiles").style.height = `${Math.ceil(grid.numbers.length / columns) * TILE.height}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / TILE.height) - 1) * columns;
  const last = Math.min(grid.numbers.length, (Math.ceil((box.scrollTop + box.clientHeight) / TILE.height) + 1) * columns);
  for (const [place, tile] of grid.tiles) {
    if (place < first || place >= last) {
      tile.remove();
      grid.tiles.delete(place);
    }
  }
  for (let place = first; place < last; place++) {
    if (!grid.photos.has(grid.numbers[place])) askPhotos(place);
    else if (!grid.tiles.has(place)) addTile(place);
    const tile = grid.tiles.get(place);
    if (tile) Object.assign(tile.style, { left: `${(place % columns) * TILE.width}px`, top: `${Math.floor(place / columns) * TILE.height}px` });
  }
}

/** Photos are asked for by page of their own numbers, so that a grid of any photos asks for few pages. */
async function askPhotos(place) {
  const { asked, photos } = grid;
  const start = grid.numbers[place] - (grid.numbers[place] % PAGE);
  if (asked.has(start)) return;
  asked.add(start);
  const found = await ask(`/v1/photos?start=${start}&count=${PAGE}`);
  for (const photo of found.photos) photos.set(photo.number, photo);
  if (photos === grid.photos) drawGrid();
}

function addTile(place) {
  const photo = grid.photos.get(grid.numbers[place]);
  const tile = make("div", { kind: `tile${photo.decision === "leave out" ? " out" : ""}`, title: photo.name }, picture(photo, "small"));
  tile.append(make("span", { text: photo.label || "no label" }), make("span", { kind: "quiet", text: badge(photo) || photo.split }));
  tile.setAttribute("role", "option");
  tile.id = `tile-${place}`;
  tile.setAttribute("aria-selected", chosen.has(photo.number));
  tile.addEventListener("click", (event) => choose(place, event.shiftKey));
  grid.tiles.set(place, tile);
  byId("tiles").append(tile);
}

function choose(place, isRange = false) {
  const from = isRange ? Math.min(grid.last, place) : place;
  const to = isRange ? Math.max(grid.last, place) : place;
  const isOn = isRange || !chosen.has(grid.numbers[place]);
  for (let i = from; i <= to; i++) isOn ? chosen.add(grid.numbers[i]) : chosen.delete(grid.numbers[i]);
  grid.last = place;
  redrawTiles();
}

function redrawTiles() {
  for (const [, tile] of grid.tiles) tile.remove();
  grid.tiles.clear();
  drawGrid();
  drawActions();
  say(chosen.size ? `${chosen.size.toLocaleString()} photos are chosen.` : "");
}

function moveInGrid(step) {
  const place = Math.min(Math.max(grid.last + step, 0), grid.numbers.length - 1);
  grid.last = place;
  const columns = Math.max(1, Math.floor(byId("grid").clientWidth / TILE.width));
  const top = Math.floor(place / columns) * TILE.height;
  const box = byId("grid");
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + TILE.height > box.scrollTop + box.clientHeight) box.scrollTop = top + TILE.height - box.clientHeight;
  box.setAttribute("aria-activedescendant", `tile-${place}`);
  drawGrid();
  say(grid.photos.get(grid.numbers[place])?.name ?? "");
}

byId("grid").addEventListener("scroll", drawGrid, { passive: true });
addEventListener("resize", () => (drawGrid(), drawMap()));
byId("none").addEventListener("click", () => (chosen.clear(), redrawTiles()));

async function showLike(photo) {
  try {
    const found = await whenReady(`/v1/like/${photo.number}?count=200`);
    await show("like");
    fillGrid(`Photos like ${photo.name}`, found.photos.map((one) => one.number));
    chosen.add(photo.number);
    redrawTiles();
  } catch (problem) {
    say(problem.message);
  }
}

/** An answer that may take a while to be made. */
async function whenReady(path) {
  for (;;) {
    const found = await ask(path);
    if (!("progress" in found)) return found;
    say(`A network looks at the photos: ${found.progress} …`);
    await new Promise((done) => setTimeout(done, 400));
  }
}

// ---- the map -------------------------------------------------------------------------------------------------------------------

let map = null; // { x, y, numbers, colour }
let lasso = [];

async function showMap() {
  fillGrid("Draw around photos to choose them", []);
  if (!map) {
    const found = await whenReady("/v1/map");
    say("");
    const names = Object.keys(found.labels).sort();
    const colours = new Map(names.map((name, i) => [name, PALETTE[i] ?? `hsl(${(i * 137.5) % 360} 60% 50%)`]));
    const colourOf = new Map(names.flatMap((name) => found.labels[name].map((number) => [number, colours.get(name)])));
    map = { names, colours, sizes: found.labels, kept: found.kept, points: found.photos.map(([number, x, y]) => ({ number, x: x / 1e4, y: y / 1e4, colour: colourOf.get(number) })) };
  }
  if (view.kind !== "map") return;
  byId("map-words").textContent = `The two main directions (PCA) of a pretrained network's features of ${map.points.length.toLocaleString()} photos; they hold ${(100 * map.kept).toFixed(0)} % of the variance. Draw around photos to choose them.`;
  byId("legend").replaceChildren(...map.names.map((name) => {
    const dot = make("span", { kind: "dot" });
    dot.style.background = map.colours.get(name);
    return make("li", {}, dot, `${name || "no label"} (${map.sizes[name].length.toLocaleString()})`);
  }));
  drawMap();
}

const MARGIN = 14;
function place(point, canvas) {
  return [MARGIN + point.x * (canvas.clientWidth - 2 * MARGIN), MARGIN + (1 - point.y) * (canvas.clientHeight - 2 * MARGIN)];
}

function drawMap() {
  const canvas = byId("map");
  if (!map || byId("map-view").hidden) return;
  const scale = devicePixelRatio;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const radius = map.points.length > 3000 ? 2 : map.points.length > 400 ? 3 : 5;
  const front = getComputedStyle(document.body).color;
  for (const isChosen of [false, true]) {
    for (const point of map.points) {
      if (chosen.has(point.number) !== isChosen) continue;
      const [x, y] = place(point, canvas);
      pen.beginPath();
      pen.arc(x, y, isChosen ? radius + 1 : radius, 0, 7);
      pen.globalAlpha = isChosen ? 1 : 0.75;
      pen.fillStyle = point.colour;
      pen.fill();
      if (isChosen) {
        pen.strokeStyle = front;
        pen.stroke();
      }
    }
  }
  pen.globalAlpha = 1;
  if (lasso.length > 1) {
    pen.beginPath();
    lasso.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.strokeStyle = front;
    pen.setLineDash([4, 3]);
    pen.stroke();
  }
}

function isInside([x, y], polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [[ax, ay], [bx, by]] = [polygon[i], polygon[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

const canvas = byId("map");
let drawing = false;
const at = (event) => [event.offsetX, event.offsetY];
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  [drawing, lasso] = [true, [at(event)]];
});
canvas.addEventListener("pointermove", (event) => {
  if (drawing) {
    lasso.push(at(event));
    drawMap();
  } else peek(event);
});
canvas.addEventListener("pointerleave", () => byId("peek")?.remove());
canvas.addEventListener("pointerup", () => {
  drawing = false;
  if (!map) return;
  const around = map.points.filter((point) => isInside(place(point, canvas), lasso)).map((point) => point.number);
  lasso = [];
  fillGrid(around.length ? `${around.length.toLocaleString()} photos inside the line` : "Draw around photos to choose them", around);
  for (const number of around) chosen.add(number);
  redrawTiles();
  drawMap();
});

/** The photo under the pointer. */
async function peek(event) {
  byId("peek")?.remove();
  const [x, y] = at(event);
  const near = map?.points.find((point) => Math.hypot(place(point, canvas)[0] - x, place(point, canvas)[1] - y) < 6);
  if (!near) return;
  const box = make("div", { id: "peek" }, picture({ number: near.number, name: "" }, "small"));
  Object.assign(box.style, { left: `${Math.min(event.clientX + 12, innerWidth - 190)}px`, top: `${Math.min(event.clientY + 12, innerHeight - 190)}px` });
  document.body.append(box);
}

// ---- deciding --------------------------------------------------------------------------------------------------------------------

/** Which photos a decision is about: of a card all of them, or the one that is meant; of a grid those that are chosen. */
function photosFor(kind) {
  if (view.kind !== "cards") return [...chosen];
  if (!view.card) return [];
  const { card, meant } = view;
  return kind === "label" || kind === "leave out" ? [card.photos[meant].number] : card.photos.map((photo) => photo.number);
}

function reason() {
  const said = byId("why").value.trim();
  if (view.kind !== "cards") return said;
  const note = said || view.card.photos[view.meant].note || "";
  return `${view.card.kind}: ${note}`.slice(0, 500);
}

async function decide(kind, now = "") {
  const who = byId("who").value.trim();
  if (!who) {
    say("Give your name first: every decision says whose it is.");
    byId("who").focus();
    return;
  }
  if (kind === "label" && !now) return askLabel();
  const photos = photosFor(kind);
  if (busy || !photos.length) return;
  await change(async () => {
    const found = await ask("/v1/decisions", { kind, photos, who, now, why: reason(), ...looksAt() });
    byId("why").value = "";
    const words = `${SAID[kind]}${now && ` ${now}`}: ${photos.length === 1 ? found.photos[0].name : `${photos.length} photos`}`;
    await take(found, words);
    if (view.kind === "cards") await showCard(found.next);
  });
}

async function undo() {
  const who = byId("who").value.trim();
  while (busy) await busy; // a decision while another is written would be about a card that nobody has seen; undoing it is not
  await change(async () => {
    const found = await ask("/v1/undo", { who, ...looksAt() });
    await take(found, `Undone: ${found.photos[0]?.name ?? ""}`);
    if (view.kind === "cards") await showCard(found.cards[0]?.[0] ?? view.at);
  });
}

/** Whose page this is, and which card is looked at, so that the answer says which one comes next. */
const looksAt = () => ({ session: about.session, ...(view.kind === "cards" ? { queue: view.queue, at: view.at } : {}) });

async function change(work) {
  busy = work().catch((problem) => say(problem.message));
  await busy;
  busy = null;
}

/** What is shown after something was decided or undone. */
async function take(found, words) {
  for (const key of pages.keys()) if (!key.startsWith(`${view.queue} `)) pages.delete(key);
  for (const [at, card] of found.cards ?? []) {
    const cards = await pages.get(`${view.queue} ${at - (at % PAGE)}`);
    if (cards) cards[at % PAGE] = card;
  }
  for (const photo of found.photos) grid.photos.set(photo.number, photo);
  introduce(found.review);
  if (map) map = found.photos.some((photo) => photo.label !== photo.listed) ? recoloured(found.photos) : map;
  if (view.kind !== "cards") redrawTiles();
  drawMap();
  say(words);
}

function recoloured(photos) {
  const labels = new Map(photos.map((photo) => [photo.number, photo.label]));
  for (const point of map.points) if (labels.has(point.number)) point.colour = map.colours.get(labels.get(point.number)) ?? point.colour;
  return map;
}

function askLabel() {
  if (!photosFor("label").length) return;
  byId("label").value = "";
  byId("label-dialog").showModal();
  byId("label").focus();
}
byId("label-cancel").addEventListener("click", () => byId("label-dialog").close(""));
byId("label-dialog").addEventListener("close", () => {
  const name = byId("label").value.trim();
  if (byId("label-dialog").returnValue === "ok" && name) decide("label", name);
});

function pressable(text, key, act) {
  const button = make("button", { type: "button" }, text, make("kbd", { text: key }));
  button.setAttribute("aria-keyshortcuts", key);
  button.addEventListener("click", act);
  return button;
}

function drawActions() {
  const isCard = view.kind === "cards";
  const count = isCard ? (view.card?.photos.length ?? 0) : chosen.size;
  const buttons = DECISIONS.map(([kind, key, text]) => {
    const button = pressable(text, key, () => decide(kind));
    button.disabled = count < (kind === "group" ? 2 : 1);
    return button;
  });
  buttons.push(pressable("Undo", "z", undo));
  if (isCard && count > 1) buttons.push(pressable("Frame the other", "s", () => mean((view.meant + 1) % count)));
  if (isCard) buttons.push(pressable("Back", "←", () => go(-1)), pressable("Next", "→", () => go(1)));
  byId("actions").replaceChildren(...buttons);
}

function drawLabels() {
  if (!about) return;
  const buttons = about.classes.slice(0, 9).map((name, i) => pressable(name, `${i + 1}`, () => decide("label", name)));
  const other = view.kind === "cards" ? view.card?.label : "";
  if (other) buttons.unshift(pressable(`Yes, ${other}`, "y", () => decide("label", other)));
  byId("labels").replaceChildren(...buttons);
}

const KEYS = {
  z: undo, ArrowLeft: () => go(-1), ArrowRight: () => go(1), y: () => view.card?.label && decide("label", view.card.label),
  s: () => view.card && mean((view.meant + 1) % view.card.photos.length), f: () => view.card && showLike(view.card.photos[view.meant]),
  ...Object.fromEntries(DECISIONS.map(([kind, key]) => [key, () => decide(kind)])),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || (event.repeat && !event.key.startsWith("Arrow")) || byId("label-dialog").open) return;
  if (event.target instanceof HTMLInputElement) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  if (event.target === byId("grid") && keyInGrid(event)) return event.preventDefault();
  const name = /^[1-9]$/.test(event.key) ? about?.classes[event.key - 1] : null;
  const act = name ? () => decide("label", name) : view.kind === "cards" || !event.key.startsWith("Arrow") ? KEYS[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
});

function keyInGrid({ key, shiftKey }) {
  const columns = Math.max(1, Math.floor(byId("grid").clientWidth / TILE.width));
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (step) moveInGrid(step);
  else if (key === " ") choose(grid.last, shiftKey);
  return Boolean(step) || key === " ";
}

// ---- the beginning ---------------------------------------------------------------------------------------------------------------

byId("who").value = localStorage.getItem("who") ?? "";
byId("who").addEventListener("change", () => localStorage.setItem("who", byId("who").value.trim()));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  begin();
});

async function begin() {
  try {
    introduce(await ask("/v1/review"));
  } catch (problem) {
    say(problem.message);
    return;
  }
  byId("token-form").hidden = true;
  const first = about.queues.find((queue) => queue.done < queue.cards) ?? about.queues[0];
  await (first ? show("cards", first.name) : show("all"));
}
begin();
