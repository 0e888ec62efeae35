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
  kind: "wide", size: [1200, 430],
  lanes: [["lane-user", 8, 8, 1184, 132], ["lane-kernel", 8, 268, 1184, 154]],
  hosts: [[8, 8, 580, 414], [612, 8, 580, 414]],
  border: "M8 204H588M612 204H1192",
  words: [
    ["host 1", 22, 30], ["host 2", 1178, 30, "end"],
    ["userspace", 574, 30, "end"], ["kernel", 574, 408, "end"],
    ["userspace", 626, 30], ["kernel", 626, 408], ["wire", 600, 318, "middle"],
  ],
  boxes: {
    app1: [25, 50, 100, 66], stack1: [25, 305, 100, 46], tun1: [195, 305, 110, 46],
    daemon1: [200, 40, 285, 86], socket1: [375, 305, 110, 46], nic1: [520, 305, 58, 46],
    nic2: [622, 305, 58, 46], socket2: [715, 305, 110, 46], daemon2: [715, 40, 285, 86],
    tun2: [895, 305, 110, 46], stack2: [1075, 305, 100, 46], app2: [1075, 50, 100, 66],
  },
  crossings: {
    app_send: [75, 204, 106, 188, "start"], tun_read: [250, 204, 281, 188, "start"],
    wire_send: [430, 204, 461, 188, "start"], wire_receive: [770, 204, 739, 188, "end"],
    tun_write: [950, 204, 919, 188, "end"], app_receive: [1125, 204, 1094, 188, "end"],
  },
  way: [[75, 83], [75, 328], [250, 328], [250, 83], [430, 83], [430, 328],
    [770, 328], [770, 83], [950, 83], [950, 328], [1125, 328], [1125, 83]],
};
const TALL = {
  kind: "tall", size: [380, 890],
  lanes: [["lane-user", 4, 4, 116, 882], ["lane-kernel", 260, 4, 116, 882]],
  hosts: [[4, 4, 372, 430], [4, 456, 372, 430]],
  border: "M190 4V434M190 456V886",
  words: [
    ["userspace", 62, 24, "middle"], ["kernel", 318, 24, "middle"],
    ["host 1", 190, 24, "middle"], ["host 2", 190, 876, "middle"], ["wire", 284, 449, "end"],
  ],
  boxes: {
    app1: [12, 52, 100, 46], stack1: [268, 52, 100, 46], tun1: [268, 192, 100, 46],
    daemon1: [12, 180, 100, 212], socket1: [268, 332, 100, 46], nic1: [286, 394, 64, 32],
    nic2: [286, 464, 64, 32], socket2: [268, 512, 100, 46], daemon2: [12, 498, 100, 212],
    tun2: [268, 652, 100, 46], stack2: [268, 792, 100, 46], app2: [12, 792, 100, 46],
  },
  crossings: {
    app_send: [190, 75, 190, 116, "middle"], tun_read: [190, 215, 190, 256, "middle"],
    wire_send: [190, 355, 190, 396, "middle"], wire_receive: [190, 535, 190, 576, "middle"],
    tun_write: [190, 675, 190, 716, "middle"], app_receive: [190, 815, 190, 856, "middle"],
  },
  way: [[62, 75], [318, 75], [318, 215], [62, 215], [62, 355], [318, 355],
    [318, 535], [62, 535], [62, 675], [318, 675], [318, 815], [62, 815]],
};
const SLOWER = 200000; // how much slower than in truth a packet is shown
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
    for (const host of layout.hosts) rectangle(this.svg, host, { class: "host", rx: 12 });
    add(this.svg, "path", { class: "border", d: layout.border });
    for (const [text, x, y, anchor = "start"] of layout.words)
      add(this.svg, "text", { x, y, class: "soft", "text-anchor": anchor }, text);
    this.way = add(this.svg, "path", { class: "way" });
    this.boxes = {};
    for (const [name, place] of Object.entries(layout.boxes)) this.addBox(name, place);
    this.crossings = {};
    for (const name of Object.keys(layout.crossings)) this.addCrossing(name);
    this.parcel = add(this.svg, "circle", { class: "parcel off", r: 9 });
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
    const crossing = add(this.svg, "g", { class: "crossing", tabindex: 0, role: "img" });
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
    this.showBundle(group, x, y, crossing.packets);
    crossing.lines.forEach((text, order) =>
      add(group, "text", {
        x: textX, y: textY + LINE * order, "text-anchor": anchor,
        class: order ? "soft" : "first",
      }, text));
    const side = anchor === "end" ? 1 : -1;
    const [numberX, numberY] = anchor === "middle" ? [x - 40, y - 12] : [x + side * 34, y - 20];
    add(group, "text", { x: numberX, y: numberY, class: "number", "text-anchor": "middle" },
      crossing.number);
  }

  // So many squares as packets pass in one call; a question mark if that is not known.
  showBundle(group, x, y, packets) {
    const columns = Math.ceil(Math.sqrt(packets ?? 1));
    const rows = Math.ceil((packets ?? 1) / columns);
    const side = Math.min(11, 40 / columns), step = side + Math.max(1, side / 5);
    const [width, height] = [columns * step + 10, rows * step + 10].map((n) => Math.max(n, 24));
    rectangle(group, [x - width / 2, y - height / 2, width, height], { class: "back", rx: 6 });
    if (packets === null)
      return add(group, "text", { x, y: y + 5, "text-anchor": "middle" }, "?");
    const left = x - (columns * step - step + side) / 2, top = y - (rows * step - step + side) / 2;
    for (let n = 0; n < packets; n++)
      rectangle(group, [left + (n % columns) * step, top + Math.floor(n / columns) * step, side, side],
        { class: "square", rx: side / 6 });
  }

  // Moves a packet along the way; resolves when it has arrived, or at once when stopped.
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
let sending = new AbortController();
let shown = null;

document.addEventListener("rung", ({ detail: name }) => {
  sending.abort();
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
  sending.abort();
  const mine = (sending = new AbortController());
  play.dataset.sending = "";
  await Promise.all(drawn.map((picture) =>
    picture.send((shown.nanoseconds / 1e6) * SLOWER, mine.signal)));
  if (mine === sending) delete play.dataset.sending;
});
