#include "coordinator/client/chrome_trace.h"

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/client/trace_maker.h"

namespace kvec::coordinator::client {
namespace {

using Json = nlohmann::json;

TEST(ChromeTraceTest, ARowIsANamedThreadAndItsTimesAreMicroseconds) {
  v1::TraceResponse trace;
  v1::TraceRow& coordinator = *trace.add_rows();
  coordinator.set_name("coordinator");
  AddSpan(coordinator, "compose", 5'000'000'002'000, 5'000'000'003'500).set_step_id(7);
  v1::TraceRow& worker = *trace.add_rows();
  worker.set_name("a \"worker\"");
  worker.set_stage(1);
  worker.set_rank(2);
  AddSpan(worker, "step", 5'000'000'001'000, 5'000'000'009'000).set_num_rows(4);
  AddSpan(worker, "send", 5'000'000'001'000, 5'000'000'001'001).set_sent_bytes(99);

  const Json json = Json::parse(ChromeTrace(trace));
  const Json& events = json.at("traceEvents");
  ASSERT_EQ(events.size(), 1u + 2 * 2 + 3);
  Json spans = Json::array();
  std::map<int, std::string> threads;
  for (const Json& event : events) {
    if (event.at("ph") == "X") spans.push_back(event);
    if (event.at("name") == "thread_name") threads[event.at("tid")] = event.at("args").at("name");
  }
  EXPECT_EQ(threads,
            (std::map<int, std::string>{{0, "coordinator"}, {1, "stage 1 rank 2: a \"worker\""}}));
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].at("name"), "compose");
  EXPECT_EQ(spans[0].at("tid"), 0);
  EXPECT_EQ(spans[0].at("ts"), 1.0);
  EXPECT_EQ(spans[0].at("dur"), 1.5);
  EXPECT_EQ(spans[0].at("args"), (Json{{"step", 7}}));
  EXPECT_EQ(spans[1].at("tid"), 1);
  EXPECT_EQ(spans[1].at("ts"), 0.0);
  EXPECT_EQ(spans[1].at("args"), (Json{{"step", 0}, {"rows", 4}}));
  EXPECT_EQ(spans[2].at("dur"), 0.001);
  EXPECT_EQ(spans[2].at("args"), (Json{{"step", 0}, {"sent_bytes", 99}}));
}

TEST(ChromeTraceTest, AnEmptyTraceIsJsonToo) {
  EXPECT_EQ(Json::parse(ChromeTrace(v1::TraceResponse())).at("traceEvents").size(), 1u);
}

}  // namespace
}  // namespace kvec::coordinator::client
