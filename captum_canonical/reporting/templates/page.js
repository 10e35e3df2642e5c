"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const announce = (text) => { document.getElementById("announce").textContent = text; };
  document.documentElement.classList.add("scripted");

  // ------------------------------------------------------------------------------------------ values of pictures
  const unseen = data.levels;
  const levelOf = Object.fromEntries(Object.entries(data.palettes).map(([kind, colours]) => {
    const found = new Map();
    colours.forEach(([r, g, b], level) => { if (!found.has((r << 16) | (g << 8) | b)) found.set((r << 16) | (g << 8) | b, level); });
    found.set(0, unseen);  // transparent, which reads as black; no palette holds black
    return [kind, found];
  }));
  const decoded = new WeakMap();

  // The colours of an image, pixel by pixel: {width, height, at(column, row) -> 0xRRGGBB}.
  function pixels(image) {
    if (decoded.has(image)) return decoded.get(image);
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const bytes = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const found = {
      width: canvas.width, height: canvas.height,
      at: (column, row) => { const place = 4 * (row * canvas.width + column); return (bytes[place] << 16) | (bytes[place + 1] << 8) | bytes[place + 2]; },
    };
    decoded.set(image, found);
    return found;
  }

  const picture = (source) => new Promise((resolve) => { const image = new Image(); image.onload = () => resolve(image); image.src = source; });
  const loaded = (image) => image.complete ? Promise.resolve(image) : new Promise((resolve) => image.addEventListener("load", () => resolve(image), { once: true }));

  function number(value) {
    const text = value === 0 ? "0" : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
    return text.replace("-", "\u2212");
  }

  function valueText(scale, level) {
    if (level === undefined || level === unseen) return "not seen";
    const value = scale.low + (scale.high - scale.low) * level / (unseen - 1);
    const clipped = scale.kind === "diverging" && level === 0 ? " or less" : level === unseen - 1 && scale.kind !== "count" ? " or more" : "";
    return `${number(value)}${clipped} ${scale.unit}`;
  }

  // --------------------------------------------------------------------------------------------- hover for values
  const tip = document.getElementById("tip");
  let regions = null;
  if (data.regions) picture(data.regions.source).then((image) => { regions = pixels(image); });

  function regionAt(across, down) {
    if (!regions) return "";
    const name = data.regions.names[(regions.at(Math.min(regions.width - 1, Math.floor(across * regions.width)), Math.min(regions.height - 1, Math.floor(down * regions.height))) & 255) - 1];
    return name ? ` \u00b7 ${name}` : "";
  }

  for (const map of $(".map")) {
    const scale = JSON.parse(map.dataset.scale);
    const image = map.querySelector("img");
    map.addEventListener("pointermove", (event) => {
      const box = image.getBoundingClientRect();
      const across = (event.clientX - box.left) / box.width, down = (event.clientY - box.top) / box.height;
      if (across < 0 || down < 0 || across >= 1 || down >= 1) { tip.hidden = true; return; }
      const values = pixels(image);
      const level = levelOf[scale.kind].get(values.at(Math.floor(across * values.width), Math.floor(down * values.height)));
      tip.textContent = valueText(scale, level) + regionAt(across, down);
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)}px`;
    });
    map.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  // ------------------------------------------------------------------------------------------------ sortable tables
  const numeric = (cell) => {
    const value = parseFloat(cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.replaceAll(",", "").replaceAll("\u2212", "-"));
    return Number.isNaN(value) ? null : value;
  };

  function compare(first, second, direction) {
    const [a, b] = [numeric(first), numeric(second)];
    if (a !== null && b !== null) return direction * (a - b);
    if (a !== null || b !== null) return a !== null ? -1 : 1;  // what has no value comes last either way
    return direction * first.textContent.trim().localeCompare(second.textContent.trim());
  }

  for (const table of $("table.sortable")) {
    $("thead th", table).forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
      const first = column === 0 ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      $("thead th", table).forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const body = table.tBodies[0];
      const rows = [...body.rows].filter((row) => !row.classList.contains("total"));
      rows.sort((a, b) => compare(a.cells[column], b.cells[column], order === "ascending" ? 1 : -1));
      rows.forEach((row) => body.append(row));
      $("tr.total", body).forEach((row) => body.append(row));
      announce(`Sorted by ${heading.textContent.trim()}, ${order}.`);
    }));
  }

  // ------------------------------------------------------------------------------------------------------------ tabs
  for (const list of $("[role=tablist]")) {
    const tabs = $("[role=tab]", list);
    const select = (chosen, focus) => {
      for (const tab of tabs) {
        const mine = tab === chosen;
        tab.setAttribute("aria-selected", String(mine));
        tab.tabIndex = mine ? 0 : -1;
        document.getElementById(tab.getAttribute("aria-controls")).hidden = !mine;
      }
      if (focus) chosen.focus();
    };
    tabs.forEach((tab, place) => {
      tab.addEventListener("click", () => select(tab, false));
      tab.addEventListener("keydown", (event) => {
        const target = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
        if (target === undefined) return;
        event.preventDefault();
        select(tabs[(target + tabs.length) % tabs.length], true);
      });
    });
    select(tabs[0], false);
  }

  // ------------------------------------------------------------------------------------------------------ the gallery
  const chooser = document.getElementById("gallery-group");
  if (chooser) chooser.addEventListener("change", () => {
    const tiles = $(".gallery > li");
    tiles.forEach((tile) => { tile.hidden = chooser.value !== "" && tile.dataset.group !== chooser.value; });
    document.getElementById("gallery-count").textContent = `${tiles.filter((tile) => !tile.hidden).length} of ${tiles.length} shown`;
  });

  // ------------------------------------------------------------------------------------ the face in three dimensions
  const PARTS = 5;  // pieces that each side of a triangle is cut into, so that colours follow the flat map
  const ROUND = 0.7;  // how far new points are moved towards the smooth surface (Phong tessellation)

  // Unit normals of vertices, means over their triangles by area; they point to the camera.
  function normalsOf(vertices, triangles) {
    const normals = vertices.map(() => [0, 0, 0]);
    for (const corners of triangles) {
      const [a, b, c] = corners.map((corner) => vertices[corner]);
      const u = [b[0] - a[0], b[1] - a[1], b[2] - a[2]], v = [c[0] - a[0], c[1] - a[1], c[2] - a[2]];
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (const corner of corners) for (let axis = 0; axis < 3; axis += 1) normals[corner][axis] += n[axis];
    }
    return normals.map((n) => { const length = Math.hypot(...n) || 1; return n.map((each) => each / length); });
  }

  // Finer vertices on a smooth surface, where each lies in the flat map, and triangles.
  function refined({ vertices, triangles }) {
    const normals = normalsOf(vertices, triangles), places = new Map();
    const out = { points: [], flat: [], i: [], j: [], k: [] };
    const vertex = (corners, weights) => {
      const key = corners.map((corner, at) => weights[at] ? `${corner}:${weights[at]}` : "").filter(Boolean).sort().join();
      if (!places.has(key)) {
        const mix = (points) => [0, 1, 2].map((axis) => points.reduce((sum, point, at) => sum + point[axis] * weights[at] / PARTS, 0));
        const p = mix(corners.map((corner) => vertices[corner]));
        const q = mix(corners.map((corner) => {
          const v = vertices[corner], n = normals[corner];
          const off = (p[0] - v[0]) * n[0] + (p[1] - v[1]) * n[1] + (p[2] - v[2]) * n[2];
          return [p[0] - off * n[0], p[1] - off * n[1], p[2] - off * n[2]];
        }));
        places.set(key, out.points.length);
        out.points.push([0, 1, 2].map((axis) => p[axis] + ROUND * (q[axis] - p[axis])));
        out.flat.push([p[0], p[1]]);
      }
      return places.get(key);
    };
    const add = (a, b, c) => { out.i.push(a); out.j.push(b); out.k.push(c); };
    for (const corners of triangles) {
      const at = (row, column) => vertex(corners, [PARTS - row, row - column, column]);
      for (let row = 0; row < PARTS; row += 1) for (let column = 0; column <= row; column += 1) {
        add(at(row, column), at(row + 1, column), at(row + 1, column + 1));
        if (column < row) add(at(row, column), at(row + 1, column + 1), at(row, column + 1));
      }
    }
    return out;
  }

  // The colour and the words of each point, read from a map and the drawing over it.
  function painted(flat, size, image, drawing, scale) {
    const values = pixels(image), lines = pixels(drawing), colours = [], texts = [];
    for (const [x, y] of flat) {
      const column = Math.min(values.width - 1, Math.max(0, Math.floor(x / size[1] * values.width)));
      const row = Math.min(values.height - 1, Math.max(0, Math.floor(y / size[0] * values.height)));
      const level = levelOf[scale.kind].get(values.at(column, row));
      const colour = level === unseen ? 0xc4c4c4 : values.at(column, row), shade = (lines.at(column, row) & 255) / 255;
      colours.push(`rgb(${[16, 8, 0].map((shift) => Math.round(((colour >> shift) & 255) * shade)).join()})`);
      texts.push(valueText(scale, level) + regionAt(x / size[1], y / size[0]));
    }
    return { colours, texts };
  }

  const VIEWS = { front: [0, 0], left: [-55, 0], right: [55, 0], up: [0, 35], down: [0, -35] };
  const DISTANCE = 1.55;
  const eyeAt = (turn, lift, distance) => {
    const [a, b] = [turn, lift].map((degrees) => degrees * Math.PI / 180);
    return { x: distance * Math.sin(a) * Math.cos(b), y: -distance * Math.cos(a) * Math.cos(b), z: distance * Math.sin(b) };
  };

  async function showFace(frame) {
    const layers = $(".hero .map, .hero + .panels .map");
    const images = await Promise.all(layers.map((map) => loaded(map.querySelector("img"))));
    const drawing = await picture(data.drawing);
    const mesh = refined(data.mesh);
    const scales = layers.map((map) => JSON.parse(map.dataset.scale));
    const paint = (layer) => painted(mesh.flat, data.mesh.size, images[layer], drawing, scales[layer]);
    const first = paint(0);
    const trace = {
      type: "mesh3d", i: mesh.i, j: mesh.j, k: mesh.k,
      // Right-handed with z up: x to the image's right, y away from the camera.
      x: mesh.points.map((p) => p[0]), y: mesh.points.map((p) => -p[2]), z: mesh.points.map((p) => -p[1]),
      vertexcolor: first.colours, text: first.texts, hoverinfo: "text", flatshading: false,
      lighting: { ambient: 0.72, diffuse: 0.45, specular: 0.03, roughness: 0.9, fresnel: 0.02 },
      lightposition: { x: 0, y: -3000, z: 2500 },
    };
    const axis = { visible: false, showspikes: false };
    const layout = {
      margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "#ffffff", uirevision: "view-3d",
      scene: { xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "data", dragmode: "turntable", camera: { eye: eyeAt(0, 0, DISTANCE), up: { x: 0, y: 0, z: 1 } } },
    };
    await Plotly.newPlot(frame, [trace], layout, { displayModeBar: false, responsive: true, scrollZoom: true });
    const turnTo = (turn, lift, distance) => Plotly.relayout(frame, { "scene.camera.eye": eyeAt(turn, Math.max(-80, Math.min(80, lift)), distance), "scene.camera.center": { x: 0, y: 0, z: 0 } });
    $("[data-view]").forEach((button) => button.addEventListener("click", () => turnTo(...VIEWS[button.dataset.view], DISTANCE)));
    $("[name=view-3d-layer]").forEach((choice) => choice.addEventListener("change", () => {
      const next = paint(Number(choice.value));
      Plotly.restyle(frame, { vertexcolor: [next.colours], text: [next.texts] });
    }));
    frame.addEventListener("keydown", (event) => {
      const { x, y, z } = frame._fullLayout.scene.camera.eye;
      const distance = Math.hypot(x, y, z), turn = Math.atan2(x, -y) * 180 / Math.PI, lift = Math.asin(z / distance) * 180 / Math.PI;
      const next = {
        ArrowLeft: [turn - 10, lift, distance], ArrowRight: [turn + 10, lift, distance], ArrowUp: [turn, lift + 10, distance],
        ArrowDown: [turn, lift - 10, distance], "+": [turn, lift, distance * 0.87], "-": [turn, lift, distance * 1.15], 0: [0, 0, DISTANCE],
      }[event.key];
      if (!next || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      turnTo(...next);
    });
    // Canvases of WebGL are not printed: a picture of the present view takes their place.
    const still = document.getElementById("view-3d-print");
    let waiting = 0;
    const keepStill = () => {
      clearTimeout(waiting);
      waiting = setTimeout(async () => {
        still.src = await Plotly.toImage(frame, { format: "png", width: 700, height: 700 });
        document.documentElement.classList.add("printable-view-3d");
        frame.dataset.ready = "true";
      }, 150);
    };
    frame.on("plotly_relayout", keepStill);
    frame.on("plotly_restyle", keepStill);
    keepStill();
  }

  function webgl() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl"));
    } catch {
      return false;
    }
  }

  const frame = document.getElementById("view-3d");
  if (frame) {
    if (!webgl()) {
      const text = document.createElement("p");
      text.className = "no-view-3d";
      text.textContent = "This browser does not draw in three dimensions (WebGL is off). The flat maps show the same values.";
      frame.replaceChildren(text);
      $(".view-3d-figure .controls, .view-3d-figure .help").forEach((each) => { each.hidden = true; });
    } else {
      showFace(frame);
    }
  }
})();
