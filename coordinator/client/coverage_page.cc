#include "coordinator/client/coverage_page.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "coordinator/client/coverage_page_source.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::client {
namespace {

using Json = nlohmann::json;

Json ToJson(const v1::LayerCacheUsage& layer) {
  Json heads = Json::array();
  for (const std::string& bits : layer.kept_token_bits()) heads.push_back(absl::Base64Escape(bits));
  return {{"layer", layer.layer()},
          {"budget", layer.budget()},
          {"kept_entries", layer.kept_entries()},
          {"unique_tokens", layer.unique_tokens()},
          {"attention_mass", layer.attention_mass()},
          {"heads", std::move(heads)}};
}

}  // namespace

std::string CoveragePage(const CoverageReport& report) {
  Json layers = Json::array();
  for (const v1::LayerCacheUsage& layer : report.usage.layers()) layers.push_back(ToJson(layer));
  const Json data = {{"model", report.model},
                     {"policy", report.policy},
                     {"budget", report.budget},
                     {"tokens", report.tokens},
                     {"evicted_tokens", report.usage.evicted_tokens()},
                     {"coverage", report.usage.coverage()},
                     {"mean_layer_coverage", report.usage.mean_layer_coverage()},
                     {"eviction_ms", report.usage.eviction_ms()},
                     {"layers", std::move(layers)}};
  const std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  // A prompt may contain "</script>": no tag may begin inside the data.
  const std::string harmless = absl::StrReplaceAll(text, {{"<", "\\u003c"}});
  return absl::StrReplaceAll(kCoveragePageSource, {{"@KVEC_DATA@", harmless}});
}

}  // namespace kvec::coordinator::client
