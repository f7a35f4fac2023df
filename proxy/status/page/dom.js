// The only ways in which this page makes elements: text is always text.

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes (`aria-`, `data-`, `role` …) and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Writes only what is different, so that a screen reader is not disturbed. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
