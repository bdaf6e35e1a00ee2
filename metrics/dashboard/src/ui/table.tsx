// Tables: columns with headings; on a narrow screen each row becomes a block, in which every value has its heading beside it.
import { Fragment, type ComponentChildren } from 'preact';

export interface Column<T> {
  name: string;
  cell: (row: T) => ComponentChildren;
  figure?: boolean; // a number: at the right, digits below digits
  lead?: boolean; // what the row is about: heads its block
  acts?: boolean; // buttons: the heading is for screen readers only
  class?: string;
}

export interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  rowKey?: (row: T) => string;
  rowClass?: (row: T) => string;
  /** What stands below a row, over the whole width; nothing for most. */
  detail?: (row: T) => ComponentChildren;
  /** As long as its rows, with no scrolling of its own. */
  free?: boolean;
}

/** Roles are stated: what is laid out as blocks would not be read out as a table otherwise. */
export function Table<T>({ label, columns, rows, rowKey, rowClass, detail, free }: TableProps<T>) {
  const classes = (column: Column<T>) => `${column.figure ? 'figure ' : ''}${column.lead ? 'lead ' : ''}${column.acts ? 'acts ' : ''}${column.class ?? ''}`.trim() || undefined;
  return (
    <div class={`scroll ${free ? 'free' : ''}`} tabIndex={0} role="region" aria-label={`${label}, table`}>
      <table class="rows" role="table" aria-label={label}>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th scope="col" role="columnheader" class={classes(column)}>
                {column.acts ? <span class="unseen">{column.name}</span> : column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => {
            const below = detail?.(row);
            return (
              <Fragment key={rowKey?.(row)}>
                <tr role="row" class={rowClass?.(row) || undefined}>
                  {columns.map((column) => (
                    <td role="cell" class={classes(column)} data-name={column.acts || column.lead ? undefined : column.name}>
                      {column.cell(row)}
                    </td>
                  ))}
                </tr>
                {below && (
                  <tr role="row" class="below">
                    <td role="cell" colSpan={columns.length}>
                      {below}
                    </td>
                  </tr>
                )}
              </Fragment>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
