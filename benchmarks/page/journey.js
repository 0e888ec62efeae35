// The journey of one packet, as a picture. It is drawn twice from one description: wide
// (userspace above, the kernel below) and tall (userspace left, the kernel right).

const pictures = JSON.parse(document.getElementById("pictures").textContent);
const SVG = "http://www.w3.org/2000/svg";
const NAMES = {
  app1: "app", stack1: "TCP/IP", tun1: "flannel0", socket1: "UDP socket", nic1: "eth0",
  app2: "app", stack2: "TCP/IP", tun2: "flannel0", socket2: "UDP socket", nic2: "eth0",
  daemon1: "flannelette", daemon2: "flannelette",
};
const USER = ["app1", "daemon1", "daemon2", "app2"];
// What is there without a daemon.
const ALWAYS = ["app1", "stack1", "nic1", "nic2", "stack2", "app2"];

// Boxes are [x, y, width, height]; a crossing is the middle of its bundle of squares,
// where its texts begin, and how they are aligned there.
const WIDE = {
  kind: "wide", size: [1200, 406],
  lanes: [
    ["lane-user", 8, 8, 580, 132], ["lane-kernel", 8, 272, 580, 126],
    ["lane-user", 612, 8, 580, 132], ["lane-kernel", 612, 272, 580, 126],
  ],
  words: [
    ["host 1", 22, 30], ["host 2", 1178, 30, "end"],
    ["userspace", 574, 30, "end"], ["kernel", 574, 386, "end"],
    ["userspace", 626, 30], ["kernel", 626, 386], ["wire", 600, 318, "middle"],
    ["the border", 574, 264, "end"], ["the border", 626, 264],
  ],
  boxes: {
    app1: [20, 50, 84, 66], stack1: [20, 305, 84, 46], tun1: [190, 305, 110, 46],
    daemon1: [195, 40, 285, 86], socket1: [375, 305, 110, 46], nic1: [520, 305, 58, 46],
    nic2: [622, 305, 58, 46], socket2: [715, 305, 110, 46], daemon2: [720, 40, 285, 86],
    tun2: [900, 305, 110, 46], stack2: [1096, 305, 84, 46], app2: [1096, 50, 84, 66],
  },
  crossings: {
    app_send: [60, 216, 92, 200, "start"], tun_read: [245, 216, 277, 200, "start"],
    wire_send: [430, 216, 462, 200, "start"], wire_receive: [770, 216, 738, 200, "end"],
    tun_write: [955, 216, 923, 200, "end"], app_receive: [1140, 216, 1108, 200, "end"],
  },
  way: [[60, 83], [60, 328], [245, 328], [245, 83], [430, 83], [430, 328],
    [770, 328], [770, 83], [955, 83], [955, 328], [1140, 328], [1140, 83]],
};
const TALL = {
  kind: "tall", size: [380, 906],
  lanes: [
    ["lane-user", 4, 4, 122, 430], ["lane-kernel", 260, 4, 116, 430],
    ["lane-user", 4, 456, 122, 446], ["lane-kernel", 260, 456, 116, 446],
  ],
  words: [
    ["userspace", 62, 24, "middle"], ["kernel", 318, 24, "middle"],
    ["host 1", 193, 24, "middle"], ["host 2", 193, 476, "middle"], ["wire", 310, 449, "end"],
  ],
  boxes: {
    app1: [10, 52, 110, 46], stack1: [268, 52, 100, 46], tun1: [268, 192, 100, 46],
    daemon1: [10, 180, 110, 212], socket1: [268, 332, 100, 46], nic1: [286, 394, 64, 32],
    nic2: [286, 464, 64, 32], socket2: [268, 512, 100, 46], daemon2: [10, 498, 110, 212],
    tun2: [268, 652, 100, 46], stack2: [268, 792, 100, 46], app2: [10, 792, 110, 46],
  },
  crossings: {
    app_send: [193, 75, 193, 116, "middle"], tun_read: [193, 215, 193, 256, "middle"],
    wire_send: [193, 355, 193, 396, "middle"], wire_receive: [193, 535, 193, 576, "middle"],
    tun_write: [193, 675, 193, 716, "middle"], app_receive: [193, 815, 193, 856, "middle"],
  },
  way: [[62, 75], [318, 75], [318, 215], [62, 215], [62, 355], [318, 355],
    [318, 535], [62, 535], [62, 675], [318, 675], [318, 815], [62, 815]],
};
const SLOWER = 100000; // how much slower than in truth a packet is shown
const LINE = 19; // between lines of text

function add(parent, name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

function rectangle(parent, [x, y, width, height], attributes) {
  return add(parent, "rect", { x, y, width, height, ...attributes });
}

class Picture {
  constructor(layout) {
    this.layout = layout;
    this.svg = add(document.getElementById("picture"), "svg", {
      class: layout.kind, viewBox: `0 0 ${layout.size.join(" ")}`, role: "group",
      "aria-label": "The way of a packet and its crossings of the kernel's border",
    });
    for (const [kind, ...place] of layout.lanes) rectangle(this.svg, place, { class: kind, rx: 12 });
    for (const [text, x, y, anchor = "start"] of layout.words)
      add(this.svg, "text", { x, y, class: "soft", "text-anchor": anchor }, text);
    this.way = add(this.svg, "path", { class: "way" });
    this.boxes = {};
    for (const [name, place] of Object.entries(layout.boxes)) this.addBox(name, place);
    this.crossings = {};
    for (const name of Object.keys(layout.crossings)) this.addCrossing(name);
    this.parcel = rectangle(this.svg, [-8, -8, 16, 16], { class: "parcel off", rx: 3 });
  }

  addBox(name, [x, y, width, height]) {
    const user = USER.includes(name);
    const box = add(this.svg, "g", { class: user ? "box user" : "box" });
    rectangle(box, [x, y, width, height], { rx: 9 });
    const middle = { x: x + width / 2, "text-anchor": "middle" };
    box.name = add(box, "text", { ...middle, class: "name" }, NAMES[name]);
    box.work = add(box, "g", { class: "work" });
    box.lines = (texts) => {
      const top = y + height / 2 + 5 - (texts.length * LINE) / 2;
      box.name.setAttribute("y", top);
      box.work.replaceChildren();
      texts.forEach((text, order) =>
        add(box.work, "text", { ...middle, y: top + LINE * (order + 1), class: "soft" }, text));
    };
    box.lines([]);
    this.boxes[name] = box;
  }

  addCrossing(name) {
    const crossing = add(this.svg, "g", { class: "crossing", tabindex: 0, role: "button" });
    const mark = () => document.dispatchEvent(new CustomEvent("place", { detail: name }));
    for (const event of ["pointerenter", "focus", "click"]) crossing.addEventListener(event, mark);
    this.crossings[name] = crossing;
  }

  show(rung) {
    const middle = this.layout.way.length - 2;
    const points = rung.daemon
      ? this.layout.way
      : this.layout.way.filter((_, n) => n < 2 || n >= middle);
    this.way.setAttribute("d", `M${points.map((point) => point.join(" ")).join("L")}`);
    for (const [name, box] of Object.entries(this.boxes)) {
      const tun = name.startsWith("tun");
      const there = rung.daemon || ALWAYS.includes(name) || (tun && rung.device);
      box.classList.toggle("off", !there);
      if (tun && rung.device) box.name.textContent = rung.device;
      if (name.startsWith("daemon")) box.lines(this.work(rung.work[name.at(-1)]));
    }
    const found = new Map(rung.crossings.map((crossing) => [crossing.place, crossing]));
    for (const [name, group] of Object.entries(this.crossings)) {
      group.classList.toggle("off", !found.has(name));
      group.replaceChildren();
      if (found.has(name)) this.showCrossing(group, name, found.get(name));
    }
  }

  // What a daemon does by itself: on few lines where there is room beside.
  work(texts) {
    return this.layout.kind === "wide" && texts.length > 2
      ? [texts.slice(0, 2).join(" · "), texts.slice(2).join(" · ")]
      : this.layout.kind === "wide" && texts.length ? [texts.join(" · ")] : texts;
  }

  showCrossing(group, name, crossing) {
    const [x, y, textX, textY, anchor] = this.layout.crossings[name];
    group.setAttribute("aria-label",
      `Crossing ${crossing.number}, ${crossing.title}: ${crossing.lines.join(", ")}`);
    this.showBundle(group, x, y, crossing);
    crossing.lines.forEach((text, order) =>
      add(group, "text", {
        x: textX, y: textY + LINE * order, "text-anchor": anchor,
        class: order ? "soft" : "first",
      }, text));
    const [cx, cy] = anchor === "middle" ? [x - 52, y] : [x, y - 52];
    add(group, "circle", { cx, cy, r: 10, class: "dot" });
    add(group, "text", { x: cx, y: cy + 4.5, class: "number", "text-anchor": "middle" },
      crossing.number);
  }

  // So many squares as packets pass in one call, hollow if only theory says so; a
  // question mark if nothing does.
  showBundle(group, x, y, { packets, counted }) {
    const columns = Math.ceil(Math.sqrt(packets ?? 1));
    const rows = Math.ceil((packets ?? 1) / columns);
    const side = Math.min(11, 34 / columns), step = side + Math.max(1, side / 5);
    const [width, height] = [columns * step + 10, rows * step + 10].map((n) => Math.max(n, 24));
    rectangle(group, [x - width / 2, y - height / 2, width, height], { class: "back", rx: 6 });
    if (packets === null)
      return add(group, "text", { x, y: y + 5, "text-anchor": "middle" }, "?");
    const left = x - (columns * step - step + side) / 2, top = y - (rows * step - step + side) / 2;
    for (let n = 0; n < packets; n++)
      rectangle(group, [left + (n % columns) * step, top + Math.floor(n / columns) * step, side, side],
        { class: counted ? "square" : "square theory", rx: side / 6 });
  }

  // Moves a packet along the way until it has arrived or is stopped.
  async send(milliseconds, signal) {
    const length = this.way.getTotalLength(), started = performance.now();
    this.parcel.classList.remove("off");
    for (let share = 0; share < 1 && !signal.aborted; ) {
      const now = await new Promise(requestAnimationFrame);
      share = Math.min(1, Math.max(0, (now - started) / milliseconds));
      const { x, y } = this.way.getPointAtLength(share * length);
      this.parcel.setAttribute("transform", `translate(${x} ${y})`);
    }
    this.parcel.classList.add("off");
  }
}

const drawn = [new Picture(WIDE), new Picture(TALL)];
const play = document.getElementById("play");
const slow = document.getElementById("slow");
let sending = null;
let shown = null;

document.addEventListener("rung", ({ detail: name }) => {
  sending?.abort();
  shown = pictures.find((picture) => picture.name === name);
  for (const picture of drawn) picture.show(shown);
  play.disabled = shown.nanoseconds === null;
  slow.textContent = play.disabled
    ? "What a packet costs was not measured on this rung."
    : `One packet costs the machine ${shown.processor} of processor time;`
      + ` shown ${SLOWER.toLocaleString("en")} times slower.`;
});
document.addEventListener("place", ({ detail: place }) => {
  for (const { crossings } of drawn)
    for (const [name, group] of Object.entries(crossings)) group.classList.toggle("on", name === place);
});
play.addEventListener("click", async () => {
  if (sending) return sending.abort();
  sending = new AbortController();
  play.textContent = "Stop";
  const milliseconds = (shown.nanoseconds / 1e6) * SLOWER;
  await Promise.all(drawn.map((picture) => picture.send(milliseconds, sending.signal)));
  sending = null;
  play.textContent = "Send a packet";
});
