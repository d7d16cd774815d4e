#include "tests/worker/eviction/eviction_case.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"
#include "nlohmann/json.hpp"
#include "worker/eviction/coverage_message.h"

namespace kvec::worker::eviction {
namespace {

using Json = nlohmann::json;

// Little-endian float16.
std::vector<float> ReadHalves(std::istream& in, size_t count) {
  std::vector<uint16_t> halves(count);
  in.read(reinterpret_cast<char*>(halves.data()),
          static_cast<std::streamsize>(count * sizeof(uint16_t)));
  std::vector<float> values(count);
  std::transform(halves.begin(), halves.end(), values.begin(), HalfToFloat);
  return values;
}

void ReadHeader(const Json& header, EvictionCase& to) {
  header.at("num_layers").get_to(to.num_layers);
  header.at("num_heads").get_to(to.num_heads);
  header.at("num_kv_heads").get_to(to.num_kv_heads);
  header.at("num_queries").get_to(to.num_queries);
  header.at("layer_budgets").get_to(to.layer_budgets);
  header.at("keep").get_to(to.keep);
  PolicyParameters& parameters = to.parameters;
  header.at("prompt_tokens").get_to(parameters.num_tokens);
  header.at("observation_window").get_to(parameters.observation_window);
  const Json& paper = header.at("paper");
  parameters.wide_window = paper.value("O2", parameters.wide_window);
  parameters.delta = paper.value("delta", parameters.delta);
  parameters.lambda = paper.value("lam", parameters.lambda);
  parameters.beta = paper.value("beta", parameters.beta);
  const Json& kvec = header.at("kvec");
  to.max_of_queries = kvec.value("score", "mean8") == "max8";
  parameters.adaptive_heads = kvec.value("adaptive", parameters.adaptive_heads);
  parameters.kvec.span_floor = kvec.value("eta", parameters.kvec.span_floor);
  parameters.kvec.max_span_tokens = kvec.value("cap", parameters.kvec.max_span_tokens);
  parameters.kvec.taken_discount = kvec.value("c_in", parameters.kvec.taken_discount);
  parameters.kvec.reserved_share = kvec.value("rho", parameters.kvec.reserved_share);
  parameters.kvec.reserved_from = kvec.value("r0", parameters.kvec.reserved_from);
}

// What a device's window scores are, by the definition: float32 sums from the oldest query on. Of
// one rank's heads.
class LayerReductions {
 public:
  LayerReductions(const EvictionCase& from, int layer, const ScoreNeeds& needs,
                  const RankHeads& heads)
      : from_(from), layer_(layer), heads_(heads), num_candidates_(from.num_candidates()) {
    means_.reserve(needs.windows.size());
    for (int window : needs.windows) means_.push_back(OverQueries(window, from.max_of_queries));
    if (needs.focus_window > 0) maxima_ = Maxima(needs.focus_window);
  }

  RankScores scores() const {
    RankScores scores;
    scores.num_candidates = num_candidates_;
    for (const auto& mean : means_) scores.query_head_means.push_back(mean);
    scores.maxima = maxima_;
    const size_t first = static_cast<size_t>(layer_) * from_.num_kv_heads + heads_.first_kv_head;
    scores.value_norms = absl::MakeConstSpan(from_.value_norms)
                             .subspan(first * num_candidates_,
                                      static_cast<size_t>(heads_.num_kv_heads) * num_candidates_);
    return scores;
  }

 private:
  float At(int head, int query, int candidate) const {
    const size_t row = (static_cast<size_t>(layer_) * from_.num_heads + heads_.first_head + head) *
                           from_.num_queries +
                       query;
    return from_.attention[row * num_candidates_ + candidate];
  }

  // [num_heads, num_candidates]: mean, or maximum, over the last `window` queries.
  std::vector<float> OverQueries(int window, bool maximum) const {
    std::vector<float> result;
    for (int head = 0; head < heads_.num_heads; ++head) {
      for (int t = 0; t < num_candidates_; ++t) {
        float value = 0;
        for (int query = from_.num_queries - window; query < from_.num_queries; ++query) {
          value = maximum ? std::max(value, At(head, query, t)) : value + At(head, query, t);
        }
        result.push_back(maximum ? value : value / static_cast<float>(window));
      }
    }
    return result;
  }

  // [window, num_candidates]: of each of the last queries the maximum over query heads.
  std::vector<float> Maxima(int window) const {
    std::vector<float> result;
    for (int query = from_.num_queries - window; query < from_.num_queries; ++query) {
      for (int t = 0; t < num_candidates_; ++t) {
        float largest = 0;
        for (int head = 0; head < heads_.num_heads; ++head) {
          largest = std::max(largest, At(head, query, t));
        }
        result.push_back(largest);
      }
    }
    return result;
  }

  const EvictionCase& from_;
  const int layer_;
  const RankHeads heads_;
  const int num_candidates_;
  std::vector<std::vector<float>> means_;
  std::vector<float> maxima_;
};

}  // namespace

absl::StatusOr<EvictionCase> ReadEvictionCase(std::istream& in) {
  std::string line;
  if (!std::getline(in, line)) return absl::OutOfRangeError("eviction case: no more");
  EvictionCase result;
  try {
    ReadHeader(Json::parse(line), result);
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("eviction case: ", error.what()));
  }
  const size_t num_candidates = static_cast<size_t>(result.num_candidates());
  const size_t num_layers = static_cast<size_t>(result.num_layers);
  result.attention =
      ReadHalves(in, num_layers * result.num_heads * result.num_queries * num_candidates);
  result.value_norms = ReadHalves(in, num_layers * result.num_kv_heads * num_candidates);
  result.parameters.sentence_ends.resize(num_candidates);
  in.read(reinterpret_cast<char*>(result.parameters.sentence_ends.data()),
          static_cast<std::streamsize>(num_candidates));
  if (!in) return absl::InvalidArgumentError("eviction case: ends inside its arrays");
  return result;
}

absl::StatusOr<std::vector<Selection>> RunPolicy(const std::string& name,
                                                 const EvictionCase& eviction_case,
                                                 const CasePart& part) {
  KVEC_ASSIGN_OR_RETURN(const auto policy, MakePolicy(name, eviction_case.parameters));
  comm::GroupComm* const comm = part.comm;
  RankExchange exchange(part.ranks, comm == nullptr ? 0 : comm->rank,
                        eviction_case.num_heads / eviction_case.num_kv_heads);
  if (comm != nullptr) exchange.SetComm(comm->ranks.get());
  Coverage coverage;
  coverage.layers_selecting.assign(eviction_case.num_candidates(), 0);
  if (comm != nullptr && comm->stage > 0) {
    KVEC_ASSIGN_OR_RETURN(coverage,
                          ReceiveCoverage(eviction_case.num_candidates(),
                                          comm->Index(comm->stage - 1, comm->rank), *comm->group));
  }
  std::vector<Selection> selections;
  for (int layer = part.first_layer; layer < part.first_layer + part.num_layers; ++layer) {
    const LayerReductions reductions(eviction_case, layer, policy->needs(), exchange.mine());
    KVEC_ASSIGN_OR_RETURN(const LayerScores scores,
                          exchange.Join(policy->needs(), reductions.scores()));
    selections.push_back(
        policy->Select(scores, eviction_case.layer_budgets.at(name)[layer], coverage));
    AddSelection(scores, selections.back(), coverage);
  }
  if (comm != nullptr && comm->stage + 1 < comm->num_stages) {
    KVEC_RETURN_IF_ERROR(
        SendCoverage(coverage, comm->Index(comm->stage + 1, comm->rank), *comm->group));
  }
  return selections;
}

absl::StatusOr<std::vector<Selection>> RunPolicy(const std::string& name,
                                                 const EvictionCase& eviction_case) {
  return RunPolicy(name, eviction_case,
                   {.first_layer = 0,
                    .num_layers = eviction_case.num_layers,
                    .ranks = {{0, eviction_case.num_heads, 0, eviction_case.num_kv_heads}}});
}

absl::StatusOr<std::vector<LayerRows>> LayerRowsOf(const std::string& name,
                                                   const EvictionCase& eviction_case) {
  KVEC_ASSIGN_OR_RETURN(const auto policy, MakePolicy(name, eviction_case.parameters));
  const RankHeads heads{0, eviction_case.num_heads, 0, eviction_case.num_kv_heads};
  RankExchange exchange({heads}, 0, eviction_case.num_heads / eviction_case.num_kv_heads);
  std::vector<LayerRows> result;
  for (int layer = 0; layer < eviction_case.num_layers; ++layer) {
    const LayerReductions reductions(eviction_case, layer, policy->needs(), heads);
    KVEC_ASSIGN_OR_RETURN(const LayerScores scores,
                          exchange.Join(policy->needs(), reductions.scores()));
    LayerRows& rows = result.emplace_back();
    for (const auto& window : scores.heads) rows.heads.emplace_back(window.begin(), window.end());
    rows.focus.assign(scores.focus.begin(), scores.focus.end());
  }
  return result;
}

}  // namespace kvec::worker::eviction
