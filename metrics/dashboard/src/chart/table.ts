// What a chart shows, as rows: for the table view, and to take away as CSV, JSON or PNG.
export type Cell = string | number | null;

export interface Table {
  columns: string[];
  rows: Cell[][];
  show?: (cell: Cell, column: number) => string; // as the table view writes it
}

function save(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function fileName(title: string, ending: string): string {
  const stamp = new Date().toISOString().slice(0, 19).replace(/[-:]/g, '');
  return `${title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '')}-${stamp}.${ending}`;
}

/** RFC 4180; a cell that a spreadsheet would take for a formula is made text. */
function csvCell(cell: Cell): string {
  if (cell === null) return '';
  const text = typeof cell === 'string' && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

export function saveCsv(title: string, table: Table): void {
  const lines = [table.columns, ...table.rows].map((row) => row.map(csvCell).join(','));
  save(fileName(title, 'csv'), new Blob([lines.join('\r\n'), '\r\n'], { type: 'text/csv' }));
}

export function saveJson(title: string, table: Table): void {
  const rows = table.rows.map((row) => Object.fromEntries(table.columns.map((name, i) => [name, row[i] ?? null])));
  save(fileName(title, 'json'), new Blob([JSON.stringify(rows, null, 2), '\n'], { type: 'application/json' }));
}

export function savePng(title: string, drawn: HTMLCanvasElement, background: string, ink: string): void {
  const ratio = 2;
  const head = 44 * ratio;
  const canvas = document.createElement('canvas');
  canvas.width = drawn.width;
  canvas.height = drawn.height + head;
  const pen = canvas.getContext('2d');
  if (!pen) return;
  pen.fillStyle = background;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(drawn, 0, head);
  pen.fillStyle = ink;
  pen.font = `600 ${15 * ratio}px Inter, system-ui, sans-serif`;
  pen.fillText(title, 16 * ratio, 28 * ratio);
  canvas.toBlob((blob) => blob && save(fileName(title, 'png'), blob), 'image/png');
}
