/* The network's map on one canvas. The server sends cells for what is looked at; a frame is a coast that is one path,
   one line and one circle of each cell. Everything is drawn anew in each frame, nothing is laid out. */
const WEST = 73, EAST = 136, SOUTH = 17, NORTH = 54; // degrees, of the whole map
const MOST = 64; // times nearer than the whole
const LARGEST = 17, SMALLEST = 3, SHARES = 20; // px; colours between the first and the last
const REST_MS = 150, STEP = 0.15;

export default {
  template: `<div class="yunhe-map" @mouseleave="hide">
    <canvas ref="canvas" tabindex="0" role="img" :aria-label="label" @keydown="key" @blur="hide"></canvas>
    <div class="yunhe-map-tip" ref="tip" role="status" hidden></div>
    <div class="yunhe-map-near">
      <button type="button" @click="nearer(1.6)" :aria-label="words.nearer">+</button>
      <button type="button" @click="nearer(1 / 1.6)" :aria-label="words.farther">−</button>
    </div>
  </div>`,
  props: { label: String, words: Object, coast: String, colours: Array, cells: Array },
  mounted() {
    this.at = { x: (WEST + EAST) / 2, y: (SOUTH + NORTH) / 2, near: 1 };
    this.shown = JSON.parse(JSON.stringify(this.cells || [])); // plain: what the library watches is slow to read
    this.chosen = -1;
    this.fingers = new Map();
    this.context = this.$refs.canvas.getContext("2d");
    this.shades = shades(this.colours);
    const canvas = this.$refs.canvas;
    canvas.addEventListener("wheel", this.wheel, { passive: false });
    canvas.addEventListener("pointerdown", this.down);
    canvas.addEventListener("pointermove", this.move);
    canvas.addEventListener("pointerup", this.up);
    canvas.addEventListener("pointercancel", this.up);
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(this.$el);
    fetch(this.coast)
      .then((answer) => answer.json())
      .then((lines) => {
        this.land = new Path2D();
        for (const line of lines)
          line.forEach(([lon, lat], i) => (i ? this.land.lineTo(lon, -lat) : this.land.moveTo(lon, -lat)));
        this.draw();
      })
      .catch(() => undefined); // a map without coasts
  },
  unmounted() {
    this.watcher.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.resting);
  },
  methods: {
    show(cells) {
      const told = this.shown[this.chosen];
      this.shown = cells;
      const still = told ? cells.findIndex((cell) => cell[0] === told[0] && cell[1] === told[1]) : -1;
      if (still < 0) this.hide();
      else this.tell(still);
      this.draw();
    },
    resize() {
      const canvas = this.$refs.canvas;
      this.ratio = Math.min(2, window.devicePixelRatio || 1);
      this.width = this.$el.clientWidth;
      this.height = this.$el.clientHeight;
      canvas.width = Math.round(this.width * this.ratio);
      canvas.height = Math.round(this.height * this.ratio);
      this.paint();
    },
    /* px for a degree of longitude, and of latitude */
    scale() {
      return [(this.width / (EAST - WEST)) * this.at.near, (this.height / (NORTH - SOUTH)) * this.at.near];
    },
    radius(size) {
      return (SMALLEST + (LARGEST - SMALLEST) * size) * Math.min(1, 0.4 + this.width / 1000);
    },
    draw() {
      if (!this.frame) this.frame = requestAnimationFrame(() => this.paint());
    },
    paint() {
      this.frame = 0;
      if (!this.width) return;
      const c = this.context, [sx, sy] = this.scale();
      const left = this.width / 2 - this.at.x * sx, top = this.height / 2 + this.at.y * sy;
      const x = (lon) => left + lon * sx, y = (lat) => top - lat * sy;
      c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      c.clearRect(0, 0, this.width, this.height);
      if (this.land) {
        c.setTransform(this.ratio * sx, 0, 0, this.ratio * sy, this.ratio * left, this.ratio * top);
        c.lineWidth = 1 / Math.max(sx, sy);
        c.strokeStyle = "rgba(128, 136, 146, 0.8)";
        c.stroke(this.land);
        c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      }
      this.ways(c, x, y);
      c.globalAlpha = 0.8;
      for (const [lon, lat, size, used] of this.shown) {
        c.fillStyle = this.shades[Math.round((used / 100) * SHARES)];
        c.beginPath();
        c.arc(x(lon), y(lat), this.radius(size), 0, 7);
        c.fill();
      }
      c.globalAlpha = 1;
      const cell = this.shown[this.chosen];
      if (cell) {
        c.strokeStyle = "#e0a03a";
        c.lineWidth = 3;
        c.beginPath();
        c.arc(x(cell[0]), y(cell[1]), this.radius(cell[2]) + 3, 0, 7);
        c.stroke();
      }
    },
    /* Lines without load are one path; those with load have its colour. */
    ways(c, x, y) {
      c.strokeStyle = "rgba(128, 136, 146, 0.35)";
      c.lineWidth = 1;
      c.beginPath();
      for (const [lon, lat, , , , toLon, toLat, , moving] of this.shown) {
        if (moving) continue;
        c.moveTo(x(lon), y(lat));
        c.lineTo(x(toLon), y(toLat));
      }
      c.stroke();
      c.lineWidth = 2.5;
      for (const [lon, lat, , , , toLon, toLat, load, moving] of this.shown) {
        if (!moving) continue;
        c.strokeStyle = this.shades[Math.round((Math.min(100, load) / 100) * SHARES)];
        c.beginPath();
        c.moveTo(x(lon), y(lat));
        c.lineTo(x(toLon), y(toLat));
        c.stroke();
      }
    },
    moved() {
      this.at.near = Math.min(MOST, Math.max(1, this.at.near));
      this.at.x = Math.min(EAST, Math.max(WEST, this.at.x));
      this.at.y = Math.min(NORTH, Math.max(SOUTH, this.at.y));
      this.hide();
      this.draw();
      clearTimeout(this.resting);
      this.resting = setTimeout(() => {
        const [sx, sy] = this.scale(), w = this.width / sx / 2, h = this.height / sy / 2;
        this.$emit("look", [this.at.x - w, this.at.y - h, this.at.x + w, this.at.y + h]);
      }, REST_MS);
    },
    /* Nearer by a factor; what lies under (px, py) stays there. */
    nearer(factor, px = this.width / 2, py = this.height / 2) {
      const [sx, sy] = this.scale();
      const near = Math.min(MOST, Math.max(1, this.at.near * factor)), real = near / this.at.near;
      this.at.x += ((px - this.width / 2) / sx) * (1 - 1 / real);
      this.at.y -= ((py - this.height / 2) / sy) * (1 - 1 / real);
      this.at.near = near;
      this.moved();
    },
    wheel(event) {
      event.preventDefault();
      this.nearer(Math.exp(-event.deltaY / 400), ...this.place(event));
    },
    place(event) {
      const box = this.$refs.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    },
    down(event) {
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, this.place(event));
    },
    up(event) {
      this.fingers.delete(event.pointerId);
    },
    move(event) {
      const now = this.place(event), before = this.fingers.get(event.pointerId);
      if (!before) return this.point(now);
      this.fingers.set(event.pointerId, now);
      const [sx, sy] = this.scale();
      if (this.fingers.size === 1) {
        this.at.x -= (now[0] - before[0]) / sx;
        this.at.y += (now[1] - before[1]) / sy;
        return this.moved();
      }
      const other = [...this.fingers].find(([id]) => id !== event.pointerId)[1];
      const far = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
      this.nearer(far(now) / far(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    },
    key(event) {
      const wide = ((EAST - WEST) / this.at.near) * STEP, high = ((NORTH - SOUTH) / this.at.near) * STEP;
      const steps = { ArrowLeft: [-wide, 0], ArrowRight: [wide, 0], ArrowUp: [0, high], ArrowDown: [0, -high] };
      if (event.key in steps) {
        this.at.x += steps[event.key][0];
        this.at.y += steps[event.key][1];
        this.moved();
      } else if (event.key === "+" || event.key === "=") this.nearer(1.6);
      else if (event.key === "-") this.nearer(1 / 1.6);
      else if (event.key === "n" || event.key === "p") this.next(event.key === "n" ? 1 : -1);
      else if (event.key === "Escape") this.hide();
      else return;
      event.preventDefault();
    },
    /* The next cell of those in view, the largest first: their labels can be had without a mouse. */
    next(step) {
      if (!this.shown.length) return;
      this.tell((this.chosen + step + this.shown.length) % this.shown.length);
    },
    point([px, py]) {
      const [sx, sy] = this.scale();
      let found = -1, nearest = Infinity;
      this.shown.forEach(([lon, lat, size], i) => {
        const far = Math.hypot((lon - this.at.x) * sx + this.width / 2 - px, (this.at.y - lat) * sy + this.height / 2 - py);
        if (far <= this.radius(size) + 2 && far < nearest) [found, nearest] = [i, far];
      });
      if (found < 0) this.hide();
      else if (found !== this.chosen) this.tell(found);
    },
    tell(i) {
      this.chosen = i;
      const tip = this.$refs.tip, [sx, sy] = this.scale(), [lon, lat, , , text] = this.shown[i];
      tip.textContent = text; // never markup
      tip.hidden = false;
      const px = (lon - this.at.x) * sx + this.width / 2, py = (this.at.y - lat) * sy + this.height / 2;
      tip.style.left = `${Math.max(0, Math.min(this.width - tip.offsetWidth, px + 12))}px`;
      tip.style.top = `${Math.max(0, Math.min(this.height - tip.offsetHeight, py + 12))}px`;
      this.draw();
    },
    hide() {
      if (this.$refs.tip.hidden) return;
      this.$refs.tip.hidden = true;
      this.chosen = -1;
      this.draw();
    },
  },
};

/* SHARES + 1 colours from the first to the last of those given (#rrggbb). */
function shades(colours) {
  const parts = colours.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  return Array.from({ length: SHARES + 1 }, (_, i) => {
    const at = (i / SHARES) * (parts.length - 1), low = Math.min(parts.length - 2, Math.floor(at));
    return `rgb(${parts[low].map((v, k) => Math.round(v + (parts[low + 1][k] - v) * (at - low))).join(",")})`;
  });
}
