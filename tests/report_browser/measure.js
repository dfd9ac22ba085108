// Measures the page that it is in, and writes the result as the text of an element, or sends it to the page around it.
addEventListener("load", () => {
  const opened = performance.now();
  // Reading the height makes the browser lay out the page.
  document.body.offsetHeight;
  const laidOut = performance.now();
  for (const details of document.querySelectorAll("details")) details.open = true;
  const root = document.documentElement;
  const parseColor = (color) => {
    const [r, g, b, a = 1] = (color.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    return { r, g, b, a };
  };
  // Relative luminance and contrast ratio, as WCAG 2 defines them.
  const luminance = ({ r, g, b }) => {
    const linear = (value) => {
      const share = value / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const contrast = (color, otherColor) => {
    const [low, high] = [luminance(color), luminance(otherColor)].sort((first, second) => first - second);
    return (high + 0.05) / (low + 0.05);
  };
  // The color behind a text: of the rectangle in the same group of an SVG, or of the nearest ancestor that has an opaque one.
  const background = (element) => {
    if (element.tagName === "text" && element.parentElement.querySelector("rect")) {
      return parseColor(getComputedStyle(element.parentElement.querySelector("rect")).fill);
    }
    for (let ancestor = element; ancestor; ancestor = ancestor.parentElement) {
      const color = parseColor(getComputedStyle(ancestor).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255, a: 1 };
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  // The highest possible contrast, of black on white.
  let lowest = 21;
  let lowestElement = "";
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("title, script, style")) continue;
    const style = getComputedStyle(element);
    const color = parseColor(element instanceof SVGElement ? style.fill : style.color);
    const found = contrast(color, background(element));
    count += 1;
    if (found < lowest) {
      lowest = found;
      lowestElement = element.outerHTML.slice(0, 200);
    }
  }
  const result = {
    width: innerWidth,
    overflow: root.scrollWidth - root.clientWidth,
    texts: count,
    lowest_contrast: lowest,
    where: lowestElement,
    is_dark: matchMedia("(prefers-color-scheme: dark)").matches,
    max_width: getComputedStyle(document.body).maxWidth,
    elements: document.querySelectorAll("*").length,
    opened_ms: opened,
    laid_out_ms: laidOut,
  };
  if (parent !== window) {
    parent.postMessage(JSON.stringify(result), "*");
  } else {
    const measured = document.createElement("p");
    measured.id = "measured";
    measured.textContent = JSON.stringify(result);
    document.body.replaceChildren(measured);
  }
});
