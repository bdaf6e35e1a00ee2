// Tooltips as elements: text from outside is never read as HTML, and no style attribute is needed, which the page's
// Content-Security-Policy would refuse.
export interface TipRow {
  color?: string;
  name: string;
  value: string;
  soft?: boolean;
}

export function tooltip(title: string, rows: TipRow[]): HTMLElement {
  const box = document.createElement('div');
  box.className = 'tip';
  const head = box.appendChild(document.createElement('div'));
  head.className = 'tip-title';
  head.textContent = title;
  for (const row of rows) {
    const line = box.appendChild(document.createElement('div'));
    line.className = row.soft ? 'tip-row soft' : 'tip-row';
    const dot = line.appendChild(document.createElement('i'));
    if (row.color) dot.style.setProperty('background-color', row.color);
    const name = line.appendChild(document.createElement('span'));
    name.textContent = row.name;
    const value = line.appendChild(document.createElement('b'));
    value.textContent = row.value;
  }
  return box;
}
