# What the module makes of its variables, in three partitions, and what it refuses. Nothing is created and nothing asked:
# run with `terraform test`.

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

provider "aws" {
  alias                       = "china"
  region                      = "cn-north-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

provider "aws" {
  alias                       = "government"
  region                      = "us-gov-west-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

variables {
  local_existing_package = "tests/package.zip"
  ecs_cluster_name       = "prod"
  ecs_service_name       = "orders"
  queue_arn              = "arn:aws:sqs:us-east-1:123456789012:orders"
  min_tasks              = 1
  max_tasks              = 10
}

run "the_first_deployment_is_a_dry_run_within_hard_bounds" {
  command = plan

  assert {
    condition     = local.environment.DRY_RUN == true
    error_message = "The first deployment must be a dry run."
  }
  assert {
    condition     = local.environment.HARD_MIN_TASKS == 1 && local.environment.HARD_MAX_TASKS == 10
    error_message = "The hard bounds must follow the bounds."
  }
  assert {
    condition     = local.environment.SQS_QUEUE_URL == "https://sqs.us-east-1.amazonaws.com/123456789012/orders"
    error_message = "The queue's URL must follow from its ARN."
  }
  assert {
    condition     = aws_lambda_function.this.timeout < 60 && aws_lambda_function.this.reserved_concurrent_executions == 1
    error_message = "Ticks must not overlap."
  }
  assert {
    condition     = aws_lambda_function_event_invoke_config.this.maximum_retry_attempts == 0 && aws_scheduler_schedule.this.target[0].retry_policy[0].maximum_retry_attempts == 0
    error_message = "A failed tick must not be repeated: the next one is a minute away."
  }
}

run "arns_and_urls_fit_china" {
  command   = plan
  providers = { aws = aws.china }
  variables {
    queue_arn = "arn:aws-cn:sqs:cn-north-1:123456789012:orders"
  }

  assert {
    condition     = local.service_arn == "arn:aws-cn:ecs:cn-north-1:123456789012:service/prod/orders"
    error_message = local.service_arn
  }
  assert {
    condition     = local.queue_url == "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders"
    error_message = local.queue_url
  }
}

run "arns_and_urls_fit_govcloud" {
  command   = plan
  providers = { aws = aws.government }
  variables {
    queue_arn = "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:orders.fifo"
  }

  assert {
    condition     = local.service_arn == "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:service/prod/orders"
    error_message = local.service_arn
  }
  assert {
    condition     = local.queue_url == "https://sqs.us-gov-west-1.amazonaws.com/123456789012/orders.fifo"
    error_message = local.queue_url
  }
}

run "zero_is_a_bound_like_any_other" {
  command = plan
  variables {
    min_tasks      = 0
    hard_max_tasks = 20
  }

  assert {
    condition     = local.environment.MIN_TASKS == 0 && local.environment.HARD_MIN_TASKS == 0 && local.environment.HARD_MAX_TASKS == 20
    error_message = "Zero must be honoured."
  }
}

run "refuses_bounds_that_cross" {
  command = plan
  variables {
    min_tasks = 11
  }
  expect_failures = [aws_lambda_function.this]
}

run "refuses_bounds_outside_the_hard_ones" {
  command = plan
  variables {
    hard_max_tasks = 5
  }
  expect_failures = [aws_lambda_function.this]
}

run "refuses_thresholds_that_cross" {
  command = plan
  variables {
    scale_down_threshold = 101
  }
  expect_failures = [aws_lambda_function.this]
}

run "refuses_what_is_no_value" {
  command = plan
  variables {
    local_existing_package            = "tests/minimal.tftest.hcl"
    queue_arn                         = "https://sqs.us-east-1.amazonaws.com/123456789012/orders"
    ecs_cluster_name                  = "arn:aws:ecs:us-east-1:123456789012:cluster/prod"
    ecs_service_name                  = "prod/orders"
    min_tasks                         = 0.5
    max_tasks                         = 5001
    tasks_per_message                 = 0
    max_scale_down_factor             = 1.5
    timeout                           = 60
    architectures                     = ["arm64", "x86_64"]
    reserved_concurrent_executions    = 2
    cloudwatch_logs_retention_in_days = 8
    alarm_topic_arn                   = "alarms"
  }
  expect_failures = [
    var.local_existing_package,
    var.queue_arn,
    var.ecs_cluster_name,
    var.ecs_service_name,
    var.min_tasks,
    var.max_tasks,
    var.tasks_per_message,
    var.max_scale_down_factor,
    var.timeout,
    var.architectures,
    var.reserved_concurrent_executions,
    var.cloudwatch_logs_retention_in_days,
    var.alarm_topic_arn,
  ]
}
