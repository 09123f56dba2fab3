// The marks on an audit's page, and the table with them. The page holds the table's bytes in pieces; a mark goes between two
// of them. The browser remembers the marks, if it allows that for a page from disk. Only the saved table counts.

const bar = document.querySelector(".marks");
const fieldsets = [...document.querySelectorAll(".mark")];
const former = fieldsets.map((fieldset) => fieldset.querySelector("input[checked]").value);
const memory = `audit ${bar.dataset.digest} ${JSON.stringify(former)}`;

function chosen(fieldset) {
  return fieldset.querySelector("input:checked");
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// Show the marks everywhere on the page.
function showMarks() {
  const values = fieldsets.map((fieldset) => chosen(fieldset).value);
  for (const fieldset of fieldsets) {
    const mark = chosen(fieldset);
    for (const place of document.querySelectorAll(`.marked[data-of="${fieldset.dataset.of}"]`)) {
      place.textContent = mark.parentElement.textContent.trim();
      place.dataset.mark = mark.value;
    }
  }
  const count = (value) => values.filter((other) => other === value).length;
  bar.querySelector(".count").textContent = `${count("yes")} to keep, ${count("no")} to drop, ${count("")} undecided`;
}

function remember() {
  try {
    localStorage.setItem(memory, JSON.stringify(fieldsets.map((fieldset) => chosen(fieldset).value)));
  } catch { /* not allowed here */ }
}

function recall() {
  try {
    const values = JSON.parse(localStorage.getItem(memory)) || former;
    fieldsets.forEach((fieldset, index) => {
      const input = [...fieldset.querySelectorAll("input")].find(({ value }) => value === values[index]);
      if (input) input.checked = true;
    });
  } catch { /* not allowed here */ }
}

function save() {
  const [first, ...others] = JSON.parse(bar.dataset.pieces).map(bytes);
  const parts = [first];
  others.forEach((piece, index) => parts.push(chosen(fieldsets[index]).value, piece));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  link.download = bar.dataset.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // by then the browser has read it
}

for (const fieldset of fieldsets) fieldset.addEventListener("change", () => { showMarks(); remember(); });
bar.querySelector(".save").addEventListener("click", save);
recall();
showMarks();
