#ifndef KVEC_COORDINATOR_CLIENT_COVERAGE_PAGE_H_
#define KVEC_COORDINATOR_CLIENT_COVERAGE_PAGE_H_

#include <string>
#include <vector>

#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// What a page shows of one evicted prompt.
struct CoverageReport {
  std::string model;
  std::string policy;
  std::string budget;               // as people write it
  std::vector<std::string> tokens;  // [prompt tokens] the text of each, UTF-8
  v1::Usage usage;                  // of a request with report_kept_tokens
};

// A self-contained HTML page: the text coloured by how many heads hold each token, a map of all
// layers and heads, and each layer's budget and coverage. Its source is coverage_page.html.
std::string CoveragePage(const CoverageReport& report);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_COVERAGE_PAGE_H_
