"""One sound row of each form of the collection, as people type it; what a test is about it changes.

What is wrong with a row is not here.
"""

WHO = "张三 83726619"
LECTURE = {
    "service_domain": "法律服务",
    "organizer": "某协会",
    "activity_name": "讲座",
    "activity_time": "6月10日",
    "venue": "线上",
    "content": "讲解",
    "participants": "约100人",
    "contact": WHO,
}
LOAN = {
    "institution_name": "某银行",
    "contact": WHO,
    "product_name": "某贷",
    "product_brief": "简介",
    "max_amount_wan": "500",
    "term_months": "12",
    "repayment": "等额",
    "guarantee": "信用",
    "rate_range": "3.65%-4.5%",
    "features": "快",
    "target_customers": "小微企业",
    "admission": "经营满一年",
}
COURSE = {
    "course_domain": "法律法规",
    "course_name": "合同法",
    "lecturer": "李四",
    "lecturer_org": "某校",
    "applicant_org": "某机构",
    "lecturer_intro": "教授",
    "course_intro": "简介",
    "contact": WHO,
}
CLUSTER = {
    "cluster_domain": "提升集群品牌效应",
    "reporting_org": "某机构",
    "item_name": "服务",
    "offer_time": "6月",
    "place": "白云区",
    "content": "内容",
    "participants": "50",
    "contact": WHO,
}
TITLE = "甲公司—供应链金融典型案例"
APPLICATION = {
    "case_name": TITLE,
    "applicant_org": "甲公司",
    "applied_on": "2025年3月5日",
    "org_name": "甲公司",
    "uscc": "91110000600037341L",
    "address": "天河区",
    "org_type": "民营",
    "headcount": "100人",
    "main_products": "金融服务",
    "contact_name": "张三",
    "contact_title": "经理",
    "contact_phone": "83726619",
    "contact_email": "a@b.cn",
    "org_intro": "简介",
    "case_name_2": TITLE,
    "declaration_accepted": "是",
    "declared_on": "2025年3月",
    "case_title": TITLE,
    "pain_points": "融资难",
    "practices": "对接",
    "results": "服务100家企业",
    "lessons": "协作",
}
RECOMMENDED = {
    "recommender": "某区",
    "service_domain": "优秀服务案例",
    "case_name": TITLE,
    "applicant_org": "甲公司",
    "contact_name": "张三",
    "contact_phone": "83726619",
}
COMPANY = {
    "recommender": "某区",
    "filled_by": "张三",
    "filled_on": "2025年3月5日",
    "company_name": "甲公司",
    "uscc": "91110000600037341L",
    "company_intro": "简介",
    "reason": "理由",
    "contact_name": "张三",
    "contact_title": "经理",
    "contact_phone": "83726619",
}
