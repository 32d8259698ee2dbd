// What a dashboard of ours may be: Grafana's published types, with the options of the kinds of panel
// that we use, and strings where the types have enums. `tests/tests/dashboards.rs` has the
// TypeScript compiler hold each dashboard against `Json<Board>`; an unknown key is an error.
import type { Dashboard, DataQuery, FieldConfig, Panel, RowPanel } from "@grafana/schema";
import type * as BarGauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as Stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as StateTimeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as TimeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** A type as JSON writes it: the values of enums in place of their names. */
export type Json<T> = T extends string
    ? `${T}`
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;

/** A query of Prometheus; its type is not among the published ones. */
interface Query extends DataQuery {
    expr: string;
    legendFormat: string;
    instant: boolean;
    range: boolean;
    exemplar?: boolean;
}

type Of<Type extends string, Options, Custom> = Omit<
    Panel,
    "type" | "options" | "fieldConfig" | "targets"
> & {
    type: Type;
    options: Options;
    fieldConfig: { defaults: Omit<FieldConfig, "custom"> & { custom?: Custom }; overrides: [] };
    targets: Query[];
};

export type Board = Omit<Dashboard, "panels"> & {
    panels: (
        | RowPanel
        | Of<"bargauge", BarGauge.Options, never>
        | Of<"stat", Stat.Options, never>
        | Of<"state-timeline", StateTimeline.Options, StateTimeline.FieldConfig>
        | Of<"timeseries", TimeSeries.Options, TimeSeries.FieldConfig>
    )[];
};
