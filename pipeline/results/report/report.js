"use strict";
// The gallery. Everything from the run enters the page as text, never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const total = data.key.length;
  const CHUNK = 60; // number of cards added at a time
  const OK = "ok";
  const DUPLICATE = "duplicate"; // skipped by the run; this is no failure
  const failed = (i) => data.status[i] !== OK && data.status[i] !== DUPLICATE;

  // --- the data of each image

  const first = new Uint32Array(total + 1); // index of an image's first prediction
  const best = new Float32Array(total).fill(-1); // -1: no predictions
  const weakest = new Float32Array(total).fill(2);
  for (let i = 0; i < total; i++) {
    first[i + 1] = first[i] + data.listed[i];
    for (let p = first[i]; p < first[i + 1]; p++) {
      best[i] = Math.max(best[i], data.score[p] / 1e4);
      weakest[i] = Math.min(weakest[i], data.score[p] / 1e4);
    }
  }
  const searched = data.key.map((key, i) => `${key}\n${data.error[i] ?? ""}`.toLowerCase());
  const className = (p) => data.classes[data.class[p]];

  const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  const said = (i) => {
    if (data.status[i] !== OK) return data.error[i] ?? data.status[i];
    if (!data.n[i]) return "nothing found";
    const name = className(first[i]);
    const score = (data.score[first[i]] / 1e4).toFixed(2);
    return data.n[i] === 1 ? `${name} ${score}` : `${name} ${score}, ${data.n[i] - 1} more`;
  };

  // invisible characters, and those that reverse the text around them: no name may look like another
  const visible = (text) => text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, (letter) =>
    `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
  // a long name is cut in its middle, because names mostly differ at their ends
  const TAIL = 12;
  const named = (key) => {
    const letters = Array.from(visible(key));
    return [letters.slice(0, -TAIL), letters.slice(-TAIL)].map((part) =>
      Object.assign(document.createElement("span"), { textContent: part.join("") }));
  };

  // --- addresses: a key is a path in which bytes that are no text are written \xNN

  const address = (key) => key.split(/(\\x[0-9a-f]{2})/).map((part, at) =>
    at % 2 ? `%${part.slice(2)}` : part.split("/").map(encodeURIComponent).join("/")).join("");
  const overlayOf = (i) => {
    const name = data.overlay[i] === 1 ? data.key[i] : data.overlay[i];
    return name === null ? null : `${data.overlays}/${address(name)}`;
  };
  const originalOf = (i) => { // null: there is no file that a browser could open
    if (data.original) return data.original[i];
    const seconds = data.seconds?.[i];
    return `${data.input.replace(/\/$/, "")}/${address(data.file ? data.file[i] : data.key[i])}${seconds == null ? "" : `#t=${seconds}`}`;
  };

  // --- thumbnails: blocks at the end of the page, which the browser may not have read yet

  const blocks = new Map();
  const arrived = (element) => element && (element.nextElementSibling || document.readyState !== "loading");
  const thumbnailOf = (i) => { // null: not read yet; "": no thumbnail
    const number = Math.floor(i / data.block);
    if (!blocks.has(number)) {
      const element = $(`thumbnails-${number}`);
      if (!arrived(element) && document.readyState === "loading") return null;
      blocks.set(number, element ? JSON.parse(element.textContent) : []);
    }
    const picture = blocks.get(number)[i % data.block];
    return picture ? `data:image/webp;base64,${picture}` : "";
  };
  const late = new Set();
  const fill = (picture) => {
    const i = Number(picture.dataset.i);
    const source = thumbnailOf(i);
    if (source === null) return late.add(picture);
    picture.textContent = source ? "" : data.status[i] === OK ? "no thumbnail" : data.status[i].replaceAll("_", " ");
    if (!source) return undefined;
    const image = new Image();
    image.alt = "";
    image.src = source;
    picture.append(image);
    if (data.overlay[i] === null) picture.append(...boxesOf(i));
    return undefined;
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      near.unobserve(entry.target);
      fill(entry.target);
    }
  }, { rootMargin: "800px" });
  addEventListener("DOMContentLoaded", () => { late.forEach(fill); late.clear(); });
  addEventListener("beforeprint", () => document.querySelectorAll("#cards li:nth-child(-n + 24) .picture:empty").forEach(fill));

  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const boxesOf = (i) => { // drawn over a picture of the whole image, at any scale
    if (!data.box || !data.width[i]) return [];
    const drawing = svg("svg", { viewBox: `0 0 ${data.width[i]} ${data.height[i]}`, "aria-hidden": "true" });
    for (let p = first[i]; p < first[i + 1]; p++) {
      const [left, top, right, bottom] = data.box.slice(4 * p, 4 * p + 4);
      drawing.append(svg("rect", { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) }));
    }
    return [drawing];
  };

  // --- filters

  const counted = new Map(); // class name -> number of images in the gallery that have it
  for (let i = 0; i < total; i++) {
    const names = new Set();
    for (let p = first[i]; p < first[i + 1]; p++) names.add(className(p));
    names.forEach((name) => counted.set(name, (counted.get(name) ?? 0) + 1));
  }
  const statuses = [...new Set(data.status)].filter((status) => status !== OK).sort();
  const choices = [["", "any"], [OK, "usable"], ["found", "something found"], ["nothing", "nothing found"]];
  const failures = statuses.filter((status) => status !== DUPLICATE);
  if (failures.length) choices.push(["failed", "not usable"], ...failures.map((status) => [status, `not usable: ${status}`]));
  if (statuses.includes(DUPLICATE)) choices.push([DUPLICATE, "duplicate"]);
  $("status").append(...choices.map(([value, text]) => new Option(text, value)));
  for (const [name, images] of [...counted].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))) {
    const row = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
    const number = document.createElement("span");
    number.textContent = images.toLocaleString("en");
    label.append(box, name, number);
    row.append(label);
    $("class-list").append(row);
  }
  const boxes = [...$("class-list").querySelectorAll("input")];

  const wanted = () => {
    const bound = (id, otherwise) => ($(id).value === "" || Number.isNaN(Number($(id).value)) ? otherwise : Number($(id).value));
    return {
      text: $("text").value.trim().toLowerCase(),
      status: $("status").value,
      classes: new Set(boxes.filter((box) => box.checked).map((box) => box.value)),
      least: bound("least", 0),
      most: bound("most", 1),
      order: $("order").value,
    };
  };
  const rightStatus = (i, status) => ({
    "": true, failed: failed(i), found: data.n[i] > 0, nothing: data.n[i] === 0,
  }[status] ?? data.status[i] === status);
  const rightPrediction = (i, filter, ids) => {
    if (!filter.classes.size && filter.least <= 0 && filter.most >= 1) return true;
    for (let p = first[i]; p < first[i + 1]; p++) {
      const score = data.score[p] / 1e4;
      if (score >= filter.least && score <= filter.most && (!filter.classes.size || ids.has(data.class[p]))) return true;
    }
    return false;
  };
  const orders = {
    name: (a, b) => (data.key[a] < data.key[b] ? -1 : 1),
    best: (a, b) => best[b] - best[a] || a - b,
    least: (a, b) => weakest[a] - weakest[b] || a - b,
    most: (a, b) => (data.n[b] ?? -1) - (data.n[a] ?? -1) || a - b,
  };
  const matching = (filter) => {
    const ids = new Set(Object.keys(data.classes).filter((id) => filter.classes.has(data.classes[id])).map(Number));
    const found = [];
    for (let i = 0; i < total; i++) {
      const right = rightStatus(i, filter.status) && searched[i].includes(filter.text) && rightPrediction(i, filter, ids);
      if (right) found.push(i);
    }
    return orders[filter.order] ? found.sort(orders[filter.order]) : found;
  };

  // --- cards

  let shown = []; // the images that match the filters, in order
  let at = 0; // the position in `shown` of the card that has the focus
  const cards = $("cards");
  const buttons = cards.getElementsByTagName("button");

  const cardOf = (i) => {
    const card = $("card").content.firstElementChild.cloneNode(true);
    const [picture, name, text] = card.firstElementChild.children;
    card.classList.toggle("failed", failed(i));
    picture.dataset.i = i;
    name.append(...named(data.key[i]));
    text.textContent = visible(said(i));
    card.firstElementChild.title = [data.key[i], data.error[i]].filter(Boolean).map(visible).join("\n");
    near.observe(picture);
    return card;
  };
  const grow = (least) => {
    const from = buttons.length;
    const to = Math.min(shown.length, Math.max(least, from + CHUNK));
    cards.append(...shown.slice(from, to).map(cardOf));
    $("more").hidden = to === shown.length;
    $("more").textContent = `${(shown.length - to).toLocaleString("en")} more below`;
  };
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && buttons.length < shown.length) grow(0);
  }, { rootMargin: "1500px" }).observe($("more"));

  const show = () => {
    const filter = wanted();
    shown = matching(filter);
    at = 0;
    near.disconnect();
    late.clear();
    cards.replaceChildren();
    grow(0);
    if (buttons.length) buttons[0].tabIndex = 0;
    const { size } = filter.classes;
    $("classes-said").textContent = size === 0 ? "all" : size <= 2 ? [...filter.classes].join(", ") : `${size} chosen`;
    $("count").textContent = shown.length === total ? count(total, "image", "images")
      : `${shown.length.toLocaleString("en")} of ${count(total, "image", "images")}`;
    remember(filter);
  };
  const moveTo = (place) => {
    const to = Math.max(0, Math.min(shown.length - 1, place));
    if (to >= buttons.length) grow(to + 1);
    if (buttons[at]) buttons[at].tabIndex = -1;
    at = to;
    buttons[at].tabIndex = 0;
    buttons[at].focus();
    buttons[at].scrollIntoView({ block: "nearest" });
  };
  const perRow = () => getComputedStyle(cards).gridTemplateColumns.split(" ").length;
  const steps = {
    ArrowLeft: () => at - 1, ArrowRight: () => at + 1, ArrowUp: () => at - perRow(), ArrowDown: () => at + perRow(),
    Home: () => 0, End: () => shown.length - 1,
  };
  cards.addEventListener("keydown", (event) => {
    if (!steps[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    const place = steps[event.key]();
    event.preventDefault();
    if (place >= 0 && (place < shown.length || event.key === "ArrowDown")) moveTo(place);
  });
  cards.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) { moveTo([...buttons].indexOf(button)); open(); }
  });

  // --- the filters are part of the address, so that a link keeps them

  const remember = (filter) => {
    const words = new URLSearchParams();
    if ($("text").value) words.set("text", $("text").value);
    if (filter.status) words.set("status", filter.status);
    filter.classes.forEach((name) => words.append("class", name));
    if (filter.least > 0) words.set("least", filter.least);
    if (filter.most < 1) words.set("most", filter.most);
    if (filter.order !== "look") words.set("order", filter.order);
    if (`#${words}` !== location.hash && (location.hash || words.size)) history.replaceState(null, "", `#${words}`);
  };
  const recall = () => {
    const words = new URLSearchParams(location.hash.slice(1));
    $("text").value = words.get("text") ?? "";
    $("least").value = words.get("least") ?? "0";
    $("most").value = words.get("most") ?? "1";
    for (const id of ["status", "order"]) {
      const value = words.get(id) ?? "";
      $(id).value = [...$(id).options].some((option) => option.value === value) ? value : $(id).options[0].value;
    }
    const names = new Set(words.getAll("class"));
    for (const box of boxes) box.checked = names.has(box.value);
    show();
  };
  $("filters").addEventListener("input", (event) => { if (event.target.id !== "find-class") show(); });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("reset", () => setTimeout(() => { $("find-class").dispatchEvent(new Event("input")); show(); }));
  $("find-class").addEventListener("input", () => {
    const text = $("find-class").value.trim().toLowerCase();
    for (const box of boxes) box.closest("li").hidden = !box.value.toLowerCase().includes(text);
  });
  addEventListener("hashchange", () => { if (location.hash !== "#gallery") recall(); });
  addEventListener("click", (event) => { if (!event.target.closest("#classes")) $("classes").open = false; });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && $("classes").open) {
      $("classes").open = false;
      $("classes").firstElementChild.focus();
    } else if (event.key === "/" && !event.target.closest("input, select") && !$("view").open) {
      event.preventDefault();
      $("text").focus();
      $("text").select();
    } else if (event.key === "ArrowDown" && event.target === $("text") && shown.length) {
      event.preventDefault();
      moveTo(0);
    }
  });

  // --- one image

  const view = $("view");
  const link = (text, target) => Object.assign(document.createElement("a"),
    { textContent: text, href: target, target: "_blank", rel: "noopener noreferrer" });
  const showPicture = (i) => {
    const plain = data.overlay[i] === null;
    const sources = [overlayOf(i), plain && !data.file && data.status[i] === OK ? originalOf(i) : null, thumbnailOf(i)];
    const frame = Object.assign(document.createElement("div"), { className: plain ? "frame" : "frame drawn" });
    const image = Object.assign(new Image(), { alt: visible(`${data.key[i]}: ${said(i)}`) });
    const left = sources.filter(Boolean);
    const next = () => {
      if (!left.length) return $("view-picture").replaceChildren(data.status[i] === OK ? "no picture" : data.status[i].replaceAll("_", " "));
      image.src = left.shift();
      return undefined;
    };
    image.addEventListener("error", next); // the file was moved, or browsers cannot show its format
    frame.append(image, ...boxesOf(i));
    $("view-picture").replaceChildren(frame);
    next();
  };
  const showRows = (i) => {
    const heads = ["class", "score", ...(data.box ? ["left top right bottom"] : []), ...(data.share ? ["share"] : [])];
    const cells = (p) => [className(p), (data.score[p] / 1e4).toFixed(3),
      ...(data.box ? [data.box.slice(4 * p, 4 * p + 4).join(" ")] : []),
      ...(data.share ? [`${(data.share[p] / 100).toFixed(1)} %`] : [])];
    const row = (kind, values) => {
      const line = document.createElement("tr");
      line.append(...values.map((value, place) => Object.assign(document.createElement(kind),
        { textContent: value, className: place ? "number" : "" })));
      return line;
    };
    const lines = Array.from({ length: data.listed[i] }, (_, place) => row("td", cells(first[i] + place)));
    const drawn = $("view-picture").querySelectorAll("rect");
    lines.forEach((line, place) => {
      for (const event of ["mouseenter", "mouseleave"]) {
        line.addEventListener(event, () => drawn[place]?.classList.toggle("pointed", event === "mouseenter"));
      }
    });
    $("view-rows").tHead.replaceChildren(...(lines.length ? [row("th", heads)] : []));
    $("view-rows").tBodies[0].replaceChildren(...lines);
    const rest = (data.n[i] ?? 0) - data.listed[i];
    $("view-more").textContent = rest ? `and ${rest.toLocaleString("en")} more in predictions/` : "";
  };
  const openAt = (place) => {
    const i = shown[place];
    $("view-name").replaceChildren(Object.assign(document.createElement("bdi"), { textContent: visible(data.key[i]) }));
    const size = data.width[i] ? `${data.width[i]} x ${data.height[i]} pixels` : "size unknown";
    const found = data.status[i] === OK ? count(data.n[i], "prediction", "predictions") : data.status[i].replaceAll("_", " ");
    $("view-facts").textContent = `${found}, ${size}; image ${(place + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    $("view-error").textContent = visible(data.error[i] ?? "");
    const targets = [["Overlay", overlayOf(i)], [data.file && !data.seconds ? "Archive" : "Original", originalOf(i)]];
    $("view-links").replaceChildren(...targets.filter(([, target]) => target).map(([text, target]) => link(text, target)));
    showPicture(i);
    showRows(i);
    $("previous").disabled = place === 0;
    $("next").disabled = place === shown.length - 1;
  };
  const open = () => { openAt(at); view.showModal(); $("view-name").focus(); };
  const step = (by) => {
    if (at + by < 0 || at + by >= shown.length) return;
    if (at + by >= buttons.length) grow(at + by + 1);
    buttons[at].tabIndex = -1;
    at += by;
    buttons[at].tabIndex = 0;
    openAt(at);
  };
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => view.close());
  view.addEventListener("click", (event) => { if (event.target === view) view.close(); });
  view.addEventListener("close", () => moveTo(at));
  view.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  recall();
  $("no-gallery").hidden = true;
})();
