// Recommendations: what would be better, how that is known, and what came of trying it.
import * as show from '../format';
import { live } from '../live';
import { go } from '../route';
import { Card, Empty } from '../ui/parts';

export function AdviceSummary() {
  const advice = live.value.recommendations;
  const best = [...(advice?.recommendations ?? [])].sort((a, b) => b.estimate.improvement * b.confidence - a.estimate.improvement * a.confidence)[0];
  return (
    <Card id="top-recommendation" title="Top recommendation">
      {best ? (
        <div class="advice-top">
          <h3>{best.title}</h3>
          <p>
            <b class="gain">{best.estimated_improvement}</b>, with {show.percent(best.confidence)} confidence
          </p>
          <p class="soft">{best.evidence.because}</p>
          <a class="button" href="#/recommendations" onClick={(event) => (event.preventDefault(), go({ page: 'recommendations' }))}>
            See the evidence
          </a>
        </div>
      ) : (
        <Empty>{advice && !advice.enabled ? 'Recommendations are off: set performance.enable_optimization_recommendations.' : 'Nothing to improve has been found yet. Findings need some minutes of traffic.'}</Empty>
      )}
    </Card>
  );
}
