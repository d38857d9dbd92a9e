// SPDX-License-Identifier: MIT OR Apache-2.0
// The texts of prompts and thresholds, as far as the page has to read them: what is right in them the program says.

/** Parts between separators. `\` before one of `,;#\` keeps it. */
function split(text, separators) {
  const parts = [""];
  for (let at = 0; at < text.length; at++) {
    const next = text[at + 1];
    if (text[at] === "\\" && next !== undefined && ",;#\\".includes(next)) parts[parts.length - 1] += text[++at];
    else if (separators.includes(text[at])) parts.push("");
    else parts[parts.length - 1] += text[at];
  }
  return parts;
}

const tidy = (text) => text.trim().split(/\s+/).join(" ");

/** Labels of prompts: the first name of each class. */
export function labelsOf(prompts) {
  const label = (text) => {
    for (let at = 0; at < text.length; at++) {
      if (text[at] === "\\") at++;
      else if (text[at] === ",") return text.slice(0, at);
    }
    return text;
  };
  // Twice split: what keeps a comma in the first pass has to keep it in the second.
  const classes = [""];
  for (let at = 0; at < prompts.length; at++) {
    if (prompts[at] === "\\") classes[classes.length - 1] += prompts[at] + (prompts[++at] ?? "");
    else if (prompts[at] === ";" || prompts[at] === "\n") classes.push("");
    else classes[classes.length - 1] += prompts[at];
  }
  return classes.map((text) => tidy(split(label(text), "")[0])).filter((text) => text);
}

/** `person=0.4, car=0.3` as numbers by label. */
export function parseThresholds(text) {
  const entries = split(text, ",;\n").filter((entry) => entry.includes("="));
  return new Map(entries.map((entry) => {
    const at = entry.lastIndexOf("=");
    return [tidy(entry.slice(0, at)), Number(entry.slice(at + 1))];
  }));
}

export const formatThresholds = (thresholds) =>
  [...thresholds].map(([label, least]) => `${label.replace(/[,;\\]/g, "\\$&")}=${least}`).join(", ");
